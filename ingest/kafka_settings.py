"""What can be set about Kafka: the section [kafka]."""

import re
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from sidelong.ingest.secret import Secret

__all__ = ["KafkaSasl", "KafkaSettings", "KafkaTls", "MessageCompression"]

MessageCompression = Literal["none", "gzip", "lz4", "zstd"]

_DEFAULT_PORT: Final = 9092
_SERVER: Final = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:\[\]/]+))(?::(?P<port>\d+))?"
)
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class KafkaTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS towards Kafka; an empty table is enough to use it.

    ca: file of the certificates that are trusted, else those of the system. cert, key: files of our
    certificate and its key, where Kafka asks for one; the key may be in the file of the
    certificate. key_password: what the key is encrypted with. check_name: whether Kafka's
    certificate must bear the name under which it is reached.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    key_password: Secret | None = None
    check_name: bool = True

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise ValueError("key is set, but cert is not")


class KafkaSasl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who we are to Kafka.

    mechanism: how it is told. username, password: for PLAIN and SCRAM. token: for OAUTHBEARER, read
    again for each connection, so that a renewed one is used. token_url, client_id, client_secret,
    scope: instead of a token, where one is got with a client's credentials (RFC 6749, section 4.4);
    it is renewed before it expires. token_ca: file of the certificates that are trusted there, else
    those of the system.
    """

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
    username: str = ""
    password: Secret | None = None
    token: Secret | None = None
    token_url: str = ""
    client_id: str = ""
    client_secret: Secret | None = None
    scope: str = ""
    token_ca: str | None = None

    def __post_init__(self) -> None:
        if self.mechanism != "OAUTHBEARER":
            if not self.username or self.password is None:
                raise ValueError(f"{self.mechanism} needs username and password")
            if self.token is not None or self.token_url:
                raise ValueError(f"{self.mechanism} takes no token")
            return
        if self.username or self.password is not None:
            raise ValueError("OAUTHBEARER takes a token, no username and password")
        if (self.token is None) == (not self.token_url):
            raise ValueError("OAUTHBEARER needs either token or token_url")
        if self.token_url and (not self.client_id or self.client_secret is None):
            raise ValueError("token_url needs client_id and client_secret")
        if self.token_url and not self.token_url.startswith("https://"):
            raise ValueError("token_url must begin with https://, for a secret goes there")


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Kafka is, who we are to it, and how much we trust to memory.

    servers: some of the brokers, HOST:PORT; the others are learnt from them. prefix: put before the
    names of topics and groups; one prefix is one watched cluster. tls: TLS, if set. sasl: who we
    are, if Kafka asks. client_id: what Kafka's own logs call us. in_flight_megabytes: how much may
    be sent and not yet acknowledged; above it, sending waits. delivery_seconds: after so long
    without an acknowledgement a message counts as not delivered. connect_seconds: how long a
    broker may take to answer. session_seconds: a process that was not heard of for so long is
    taken for dead, and others take over what it read. linger_ms: how long a message waits for
    others that go with it. compression: of messages that are not compressed by themselves.
    read_committed: leave out what was sent in transactions that were aborted.
    """

    servers: tuple[str, ...] = ()
    prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    tls: KafkaTls | None = None
    sasl: KafkaSasl | None = None
    client_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "sidelong"
    in_flight_megabytes: Annotated[int, msgspec.Meta(ge=1)] = 32
    delivery_seconds: Annotated[float, msgspec.Meta(ge=2)] = 45.0
    connect_seconds: _Seconds = 10.0
    session_seconds: Annotated[float, msgspec.Meta(ge=1)] = 10.0
    linger_ms: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 5
    compression: MessageCompression = "zstd"
    read_committed: bool = True

    def __post_init__(self) -> None:
        for server in self.servers:
            _address(server)

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each of `servers`."""
        return tuple(_address(server) for server in self.servers)

    @property
    def shown(self) -> str:
        """The servers, for people."""
        return ", ".join(self.servers)

    def topic(self, name: str) -> str:
        """What the topic `name`, such as `flows.raw`, is called here."""
        return f"{self.prefix}{name}"

    def group(self, role: str) -> str:
        """What the consumer group of a role is called here."""
        return f"{self.prefix}sidelong.{role}"


def _address(server: str) -> tuple[str, int]:
    found = _SERVER.fullmatch(server)
    if found is None:
        raise ValueError(f"servers has {server!r}, but must have HOST:PORT")
    port = int(found["port"] or _DEFAULT_PORT)
    if not 0 < port < 65_536:
        raise ValueError(f"servers has {server!r}, but a port is below 65536")
    return found["six"] or found["name"], port
