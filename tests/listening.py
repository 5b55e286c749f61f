"""Running a source that listens, and reading what it yields, in tests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
import polars as pl
import trustme

from sidelong.ingest.receiving import Receiver
from sidelong.ingest.schema import empty_flows
from sidelong.ingest.source import BadRows, Batch

__all__ = ["Reading", "TlsFolder", "raw_channel", "until"]

SECONDS: Final = 20


class Reading:
    """A reader of a source in a thread of its own, from `with` to its end.

    pause: while it is set, the batch at hand is not let go.
    """

    def __init__(self, source: Receiver[Any]) -> None:
        self.source = source
        self.batches: list[Batch] = []
        self.pause = threading.Event()
        self.go = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self.port = self.source.listen()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Close the source and read what is left."""
        self.source.close()
        self.pause.clear()
        self.go.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the source does not end"
        if self.error:
            raise self.error

    @property
    def flows(self) -> pl.DataFrame:
        return pl.concat([empty_flows(), *(batch.flows for batch in list(self.batches))])

    @property
    def attempts(self) -> pl.DataFrame:
        return self.flows.filter(~pl.col("reply"))

    @property
    def bad(self) -> BadRows:
        return sum((batch.bad for batch in list(self.batches)), BadRows())

    def _read(self) -> None:
        try:
            for batch in self.source.batches():
                if batch.flows.height or batch.bad.count:
                    self.batches.append(batch)
                    if self.pause.is_set():
                        self.go.wait(SECONDS)
        except Exception as error:
            self.error = error


def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for what another thread does. Fails when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


@contextmanager
def raw_channel(port: int, credentials: grpc.ChannelCredentials | None = None) -> Iterator[Any]:
    """A channel of its own to a port of loopback."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    address = f"localhost:{port}"
    channel = (
        grpc.secure_channel(address, credentials, options)
        if credentials
        else grpc.insecure_channel(address, options)
    )
    with channel:
        yield channel


class TlsFolder:
    """Certificates in a folder: server.pem and server.key for localhost, ca.pem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.renew()

    @property
    def settings(self) -> dict[str, str]:
        return {"cert": str(self.folder / "server.pem"), "key": str(self.folder / "server.key")}

    @property
    def ca(self) -> bytes:
        return self.authority.cert_pem.bytes()

    def renew(self) -> trustme.LeafCert:
        """Another certificate for the server."""
        made = self.authority.issue_cert("localhost", "127.0.0.1")
        (self.folder / "server.pem").write_bytes(
            b"".join(blob.bytes() for blob in made.cert_chain_pems)
        )
        (self.folder / "server.key").write_bytes(made.private_key_pem.bytes())
        return made

    def client(self) -> tuple[bytes, bytes]:
        """Key and certificate of a client."""
        made = self.authority.issue_cert("client@example.org")
        return made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()
