"""What the library behind the transport does not do by itself (kafka-python 3.0.12).

- Asked to connect, it tries for as long as it may and then says that time went by, whether the
  password is wrong or the machine is off.
- What a broker says before it closes the connection, such as why, is dropped when both come at
  once.
- Sockets that do not connect, or are in the middle of that when their client is closed, are left to
  the garbage collector.
"""

from socket import socket
from typing import Any
from weakref import WeakSet

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from sidelong.errors import SidelongError

__all__ = ["Network", "network"]

_DIRECT = "direct"

_REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
    SidelongError,  # a token that is not to be had
)


class _Sockets(KafkaNetSocket):  # type: ignore[misc]  # the library has no types
    """Chosen by the library for the proxy `direct://`, which is none."""

    SCHEMES = (_DIRECT,)

    async def sock_connect(self, net: Any, sock: Any, *given: Any, **named: Any) -> Any:
        """Connect, or close what does not; the loop remembers its sockets."""
        net.sockets.add(sock)
        try:
            return await super().sock_connect(net, sock, *given, **named)
        except BaseException:
            sock.close()
            raise


class _Loop(NetworkSelector):  # type: ignore[misc]  # the library has no types
    """Knows the sockets that were opened on it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.sockets: WeakSet[socket] = WeakSet()


class _Client(KafkaNetClient):  # type: ignore[misc]  # the library has no types
    """Leaves no socket open."""

    def __init__(self, loop: _Loop, **given: Any) -> None:
        super().__init__(net=loop, **given)
        self._loop = loop

    def close(self, node_id: Any = None) -> Any:
        """Close the connection to a node, or all, those too that were just being made."""
        try:
            return super().close(node_id)
        finally:
            for one in list(self._loop.sockets) if node_id is None else ():
                one.close()


class Network(KafkaConnectionManager):  # type: ignore[misc]  # the library has no types
    """Gives up at once where no further attempt helps; `failure` is why the last one failed."""

    failure: BaseException | None = None

    def get_connection(self, node_id: object, *given: Any, **named: Any) -> KafkaConnection:
        """The connection to a broker. Errors: what a broker said no with, before any said yes."""
        if isinstance(self.failure, _REFUSALS) and not self.bootstrapped:
            raise self.failure
        connection = super().get_connection(node_id, *given, **named)
        if not self.bootstrapped:
            connection.init_future.add_errback(self._remember)
        return connection

    async def _build_transport(self, *given: Any, **named: Any) -> Any:
        transport: Any = await super()._build_transport(*given, **named)
        receive = transport._sock_recv

        def received() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the end comes again when it is asked for

        transport._sock_recv = received
        return transport

    def _remember(self, error: BaseException) -> None:
        self.failure = error


def network(**given: Any) -> KafkaNetClient:
    """What a client of the library is built with as `kafka_client`."""
    given["proxy_url"] = f"{_DIRECT}://"
    loop = _Loop(**given)
    return _Client(loop, manager=Network(loop, **given), **given)
