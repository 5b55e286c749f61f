"""The real Kubernetes API for tests: kube-apiserver over etcd, and kubectl, built from sources.

    .venv/bin/python tests/peers/kubernetes_peer.py

builds the program ahead of the tests. There are no controllers and no kubelets: a test creates what
they would have, and writes the status of pods itself.
"""

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.error import HTTPError, URLError

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from peers.go_programs import GoError, built

__all__ = ["ADVERTISED", "ApiError", "Kubernetes", "PeerError", "build"]

SOURCES: Final = Path(__file__).resolve().parent / "kubernetes"
ADVERTISED: Final = "192.0.2.10"
"""Where the API server says that it is: in its endpoints, and nowhere else."""

_START_SECONDS: Final = 90
_TOKENS: Final = "admin-token,admin,1,system:masters\nwatch-token,sidelong,2\nno-token,nobody,3\n"


class PeerError(Exception):
    """The real Kubernetes cannot be had, or did not start."""


class ApiError(Exception):
    """The API server said no; the message is its own."""


def build() -> Path:
    """The program, built if need be. Errors: PeerError."""
    try:
        return built("kubernetespeer", SOURCES)
    except GoError as error:
        raise PeerError(str(error)) from error


class Kubernetes:
    """A cluster without nodes. Users: admin, who may do all; sidelong, as far as it is granted.

    folder: for its files, new and empty.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self._api: subprocess.Popen[bytes] | None = None
        self._port = 0
        (folder / "tokens.csv").write_text(_TOKENS)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        (folder / "accounts.key").write_bytes(key)
        with (folder / "etcd.log").open("wb") as log:
            self._etcd = subprocess.Popen(
                [build(), "etcd", str(folder / "etcd")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            assert self._etcd.stdout
            self._storage = self._etcd.stdout.readline().decode().strip()
            if not self._storage:
                raise PeerError(f"etcd did not start: {(folder / 'etcd.log').read_text()[-2000:]}")
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def server(self) -> str:
        """The address of the API server, which stays the same."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def certificate(self) -> Path:
        """What the API server shows."""
        return self._folder / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start the API server, where it was before, and wait until it is ready."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._port = self._port or _free_port()
            self._api = self._run()
            while self._api.poll() is None and time.monotonic() < deadline:
                if self._ready():
                    return
                time.sleep(0.1)
            if time.monotonic() >= deadline:
                log = (self._folder / "apiserver.log").read_text()
                raise PeerError(f"kube-apiserver did not start: {log[-2000:]}")
            self._port = 0  # somebody took the port in between

    def kill(self) -> None:
        """As when the node of the API server loses power; etcd goes on."""
        if self._api:
            self._api.kill()
            self._api.wait()
            self._api = None

    def close(self) -> None:
        """End everything and wait for that."""
        self.kill()
        self._etcd.communicate()  # it ends with its input

    def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json"
    ) -> Any:
        """Ask as admin; the answer. Errors: ApiError."""
        request = urllib.request.Request(
            self.server + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": "Bearer admin-token", "Content-Type": kind},
            method=method,
        )
        context = ssl.create_default_context(cafile=str(self.certificate))
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return json.load(answer)
        except HTTPError as error:
            raise ApiError(f"{error.code} {error.read().decode()}") from error

    def create(self, collection: str, thing: Any) -> Any:
        """Create an object; with a status, that of the object too. Returns it."""
        made = self.ask("POST", collection, thing)
        if "status" in thing:
            path = f"{collection}/{made['metadata']['name']}"
            made = self.set_status(path, thing["status"])
        return made

    def set_status(self, path: str, status: Any) -> Any:
        """What a kubelet does."""
        kind = "application/merge-patch+json"
        return self.ask("PATCH", f"{path}/status", {"status": status}, kind=kind)

    def kubectl(self, *arguments: str) -> bytes:
        """What kubectl prints, as admin. Errors: CalledProcessError, with its complaint."""
        ran = subprocess.run(self._kubectl(arguments), check=True, capture_output=True, timeout=60)
        return ran.stdout

    @contextmanager
    def recording(self, file: Path, *arguments: str) -> Iterator[None]:
        """Let kubectl print to a file meanwhile, until it is interrupted as by a person."""
        with file.open("wb") as out, subprocess.Popen(self._kubectl(arguments), stdout=out) as ran:
            try:
                yield
            finally:
                ran.send_signal(signal.SIGINT)

    def _kubectl(self, arguments: Sequence[str]) -> list[str]:
        options = [f"--kubeconfig={self.kubeconfig('admin-token')}", f"--cache-dir={self._folder}"]
        return [str(build()), "kubectl", *options, *arguments]

    def kubeconfig(self, token: str = "watch-token", *, trusted: bool = True) -> str:
        """A kubeconfig of a user; returns its path. trusted: knows what the server shows."""
        path = self._folder / f"kubeconfig-{token}-{trusted}"
        cluster: dict[str, Any] = {"server": self.server}
        if trusted:
            cluster["certificate-authority"] = str(self.certificate)
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
        }
        path.write_text(json.dumps(config))
        return str(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ready(self) -> bool:
        try:
            self.ask("GET", "/api/v1/namespaces/default")
            return bool(self.ask("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"])
        except (ApiError, URLError, OSError):
            return False

    def _run(self) -> subprocess.Popen[bytes]:
        folder = self._folder
        options = [
            f"--etcd-servers={self._storage}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--advertise-address={ADVERTISED}",
            f"--cert-dir={folder / 'certificates'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={folder / 'accounts.key'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",  # no controller makes any
        ]
        with (folder / "apiserver.log").open("ab") as log:
            return subprocess.Popen(
                [build(), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.path.insert(0, str(SOURCES.parents[1]))
    try:
        print(build())
    except PeerError as error:
        sys.exit(str(error))
