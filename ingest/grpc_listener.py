"""A gRPC server on an event loop, raw bytes in and out, with TLS, limits, keepalive and health.

Whoever asks `grpc.health.v1.Health/Check`, as Kubernetes does, is told that it serves.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import grpc
import grpc.aio

from sidelong.errors import SourceError
from sidelong.ingest.listening import Identity, ServerSettings
from sidelong.ingest.otlp_logs_pb2 import Delay, Detail, RetryInfo, Status

__all__ = ["GrpcListener", "come_later"]

_HEALTH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_STREAM_WINDOW: Final = 64 << 10


class GrpcListener:
    """Serves `methods`, full names of methods with their handlers; nothing else is known to it.

    calls: how many at a time, None where the methods see to it.
    """

    def __init__(
        self,
        host: str,
        port: int,
        settings: ServerSettings,
        methods: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"],
        calls: int | None = None,
    ) -> None:
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._settings = settings
        self._identity = Identity.of(settings)
        self._methods = {_HEALTH: grpc.unary_unary_rpc_method_handler(_health), **methods}
        self._calls = calls
        self._server: Any = None

    async def start(self) -> int:
        """Listen; the port. Errors: SourceError when the address cannot be had."""
        self._server = grpc.aio.server(
            handlers=[_Methods(self._methods)],
            options=list(_options(self._settings).items()),
            maximum_concurrent_rpcs=self._calls,
        )
        try:
            if self._identity is None:
                port = self._server.add_insecure_port(self._address)
            else:
                credentials = _credentials(self._identity, bool(self._settings.client_ca))
                port = self._server.add_secure_port(self._address, credentials)
        except RuntimeError as error:
            raise SourceError(
                f"{self._address} cannot be listened at: it is in use, or not of this host",
                hint="choose another port, or end what listens there",
            ) from error
        await self._server.start()
        return int(port)

    async def stop(self, seconds: float) -> None:
        """Take no new calls; those that are open have `seconds` to end."""
        await self._server.stop(seconds)


def come_later(seconds: int = 1) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that tell a client of OTLP when to try again; without it may not at all."""
    wait = RetryInfo(retry_delay=Delay(seconds=seconds)).SerializeToString()
    status = Status(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
        message="the queue is full",
        details=[Detail(type_url=_RETRY_INFO, value=wait)],
    )
    return (("grpc-status-details-bin", status.SerializeToString()),)


class _Methods(grpc.GenericRpcHandler):
    def __init__(self, methods: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]) -> None:
        self._methods = methods

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        return self._methods.get(handler_call_details.method)


async def _health(request: bytes, context: object) -> bytes:
    return _SERVING


def _options(settings: ServerSettings) -> dict[str, int]:
    return {
        "grpc.max_receive_message_length": settings.message_bytes,
        "grpc.max_metadata_size": 16 << 10,
        # Two servers at one port would each get half of the senders.
        "grpc.so_reuseport": 0,
        # What is held for a stream that is not read.
        "grpc.http2.bdp_probe": 0,
        "grpc.http2.lookahead_bytes": _STREAM_WINDOW,
        # A sender that is gone is noticed; one that pings on its own account is not turned away.
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": 5_000,
    }


def _credentials(identity: Identity, mutual: bool) -> grpc.ServerCredentials:
    def configuration() -> grpc.ServerCertificateConfiguration:
        cert, key = identity.content[:2]
        roots = identity.content[2] if mutual else None
        return grpc.ssl_server_certificate_configuration([(key, cert)], roots)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        return configuration() if identity.changed() else None

    # None is "as before"; the stubs do not know it.
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", changed)
    return grpc.dynamic_ssl_server_credentials(configuration(), fetch, mutual)
