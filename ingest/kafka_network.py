"""The library's connections to brokers, with their first failures remembered.

By itself the library tries for as long as it may and then says that time went by, whether the
password is wrong or the machine is off.
"""

from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from sidelong.errors import SidelongError

__all__ = ["Network", "network"]

_REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.UnsupportedVersionError,
    SidelongError,  # a token that is not to be had
)


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

    def _remember(self, error: BaseException) -> None:
        self.failure = error


def network(**given: Any) -> KafkaNetClient:
    """What a client of the library is built with as `kafka_client`."""
    loop = NetworkSelector(**given)
    return KafkaNetClient(net=loop, manager=Network(loop, **given), **given)
