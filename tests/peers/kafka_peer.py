"""A real Apache Kafka for tests: one node or three, KRaft, on loopback, with TLS and SASL beside.

    .venv/bin/python tests/peers/kafka_peer.py

runs one until it is interrupted and prints where it listens.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `peers`, as pytest has it

import trustme
from cryptography.hazmat.primitives import serialization

from peers.kafka_jars import PASSWORD, USER, KafkaError, java, kafka_jars

__all__ = ["PASSWORD", "USER", "Kafka", "KafkaCluster", "KafkaError"]

_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 30
_POLL_SECONDS: Final = 0.05

_MODULES: Final = "org.apache.kafka.common.security"

_PROPERTIES: Final = """
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAIN://{plain},TLS://{tls},SASL://{sasl},CONTROLLER://{controller}
advertised.listeners=PLAIN://{plain},TLS://{tls},SASL://{sasl}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAIN:PLAINTEXT,TLS:SSL,SASL:SASL_SSL
log.dirs={folder}/storage
default.replication.factor={replicas}
min.insync.replicas={insync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={insync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
initial.broker.registration.timeout.ms=60000
ssl.keystore.type=PEM
ssl.keystore.location={folder}/node.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
listener.name.tls.ssl.client.auth=requested
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required \
  user_{user}="{password}";
listener.name.sasl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config=\
  {modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="{user}";
"""


class Kafka:
    """One node. `server`, `tls_server` and `sasl_server` are HOST:PORT and stay the same.

    folder: for its data, new and empty; also of `ca.pem`, `client.pem` (certificate and key of a
    client) and `kafka.log`. The listener of `tls_server` takes clients with and without a
    certificate; that of `sasl_server` speaks TLS, and knows USER with PASSWORD, and for OAUTHBEARER
    whoever shows an unsigned token.
    """

    def __init__(self, folder: Path, *, node: int = 1, controllers: Sequence[int] = ()) -> None:
        self._jars: Final = kafka_jars()
        self._folder: Final = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.log: Final = folder / "kafka.log"
        ports = _ports(4)
        controllers = controllers or ports[3:]
        addresses = [f"127.0.0.1:{port}" for port in (*ports[:3], controllers[node - 1])]
        self.server, self.tls_server, self.sasl_server, controller = addresses
        shutil.copytree(self._jars / "storage", folder / "storage")
        self._be(node)
        self._certify()
        replicas = len(controllers)
        text = _PROPERTIES.format(
            node=node,
            voters=",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(controllers, 1)),
            plain=self.server,
            tls=self.tls_server,
            sasl=self.sasl_server,
            controller=controller,
            folder=folder,
            replicas=replicas,
            insync=min(2, replicas),
            modules=_MODULES,
            user=USER,
            password=PASSWORD,
        )
        (folder / "server.properties").write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ca(self) -> Path:
        """The certificate to trust."""
        return self._folder / "ca.pem"

    @property
    def client(self) -> Path:
        """Certificate and key of a client, in one file."""
        return self._folder / "client.pem"

    def start(self, *, wait: bool = True) -> None:
        """Start it, on the data that it has, and wait until it answers."""
        if self._process is not None:
            raise KafkaError("it runs already")
        # Java shall not outlive the tests, however they end. The signal comes when the thread ends
        # that started it, which therefore must be the one that ends last.
        guard: list[str] = []
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and (program := shutil.which("setpriv")):
            guard = [program, "--pdeathsig", "KILL"]
        command = java(self._jars, "kafka.Kafka", str(self._folder / "server.properties"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers. Errors: KafkaError, with the end of its log."""
        ends = time.monotonic() + _START_SECONDS
        while b"Kafka Server started" not in self.log.read_bytes():
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > ends:
                log = self.log.read_text(encoding="utf-8", errors="replace")
                raise KafkaError(f"Kafka did not start:\n{log[-6_000:]}")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as when its machine loses power."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still meanwhile: it takes connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it at once; its data is of no use any more."""
        self.kill()

    @staticmethod
    def topic(name: str = "topic") -> str:
        """A name that no other test uses."""
        return f"{name}.{uuid.uuid4().hex[:12]}"

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
        self._process = None

    def _be(self, node: int) -> None:
        """Make the copied storage that of another node."""
        meta = self._folder / "storage" / "meta.properties"
        text = re.sub(r"(?m)^node\.id=.*$", f"node.id={node}", meta.read_text(encoding="utf-8"))
        if node > 1:  # a directory belongs to one node
            last = f"{node}"
            text = re.sub(r"(?m)^(directory\.id=.{20}).*$", rf"\g<1>{last}A", text)
        meta.write_text(text, encoding="utf-8")

    def _certify(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        server = authority.issue_cert("127.0.0.1", "localhost")
        key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
        plain = key.private_bytes(  # the form that Java reads
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
        (self._folder / "node.pem").write_bytes(plain + chain)
        client = authority.issue_cert("client@sidelong.test")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.client))


class KafkaCluster:
    """Three nodes, each of them broker and controller; every topic has three replicas.

    folder: for their data, new and empty. `servers` are those of all `nodes`.
    """

    def __init__(self, folder: Path) -> None:
        controllers = _ports(3)
        self.nodes: Final[list[Kafka]] = []
        for node in range(1, 4):
            place = folder / str(node)
            place.mkdir()
            self.nodes.append(Kafka(place, node=node, controllers=controllers))
        self.servers: Final = tuple(node.server for node in self.nodes)

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start(wait=False)
            for node in self.nodes:
                node.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for node in self.nodes:
            node.close()


def _ports(count: int) -> list[int]:
    """Ports on which nobody listens, and from which nobody will connect.

    A client that tries again and again to reach a broker that is down may be given that very port
    to connect from, connects to itself, and keeps the broker from ever coming back. So they are
    below those that the system gives.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def main() -> int:
    """Run one until SIGINT or SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as folder, Kafka(Path(folder)) as kafka:
        print(kafka.server, flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
