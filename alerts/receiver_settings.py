"""What can be set of the receivers: the sections [[receivers]], each with its `type` and `name`."""

import re
from typing import Annotated, Final, Literal

import msgspec

from sidelong.alerts.format_syslog import FACILITIES
from sidelong.alerts.http_client import HttpSettings
from sidelong.ingest.kafka_settings import KafkaSasl, KafkaSettings, KafkaTls
from sidelong.ingest.secret import Secret

__all__ = [
    "AlertmanagerSettings",
    "AppriseSettings",
    "CloudEventsSettings",
    "EcsSettings",
    "FileSettings",
    "HttpReceiverSettings",
    "KafkaReceiverSettings",
    "OcsfSettings",
    "PagerDutySettings",
    "ReceiverSettings",
    "SlackSettings",
    "SyslogSettings",
    "TeamsSettings",
    "WebhookSettings",
]

_CONFIDENTIAL: Final = re.compile("auth|token|key|secret|cookie|pass", re.IGNORECASE)

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Value = str | Secret
"""A text, or where the secret is: { env = "NAME" } or { file = "/run/secrets/name" }."""


class HttpReceiverSettings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is the same of every receiver behind a URL; see HttpSettings too.

    name: what routes call it. url: as text, or a secret, as those of Slack and Teams always are.
    headers: sent with each request; those that look confidential are secrets.
    """

    name: Name
    url: Value
    headers: dict[str, Value] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.headers.items():
            if isinstance(value, str) and _CONFIDENTIAL.search(name):
                raise ValueError(f'the header {name} is a secret: write {{ env = "VARIABLE" }}')


class WebhookSettings(
    HttpReceiverSettings,
    tag="webhook",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Anything that takes a request: JSON, signed as Standard Webhooks if there is a secret.

    signing: secrets of the form whsec_..., each of which signs; two while one replaces the other.
    body: a template for the body instead of our JSON. content_type: that of the body; values in a
    template are escaped for it, as JSON, HTML or plain text. method: POST or PUT.
    """

    signing: tuple[Secret, ...] = ()
    body: str | None = None
    content_type: str = "application/json"
    method: Literal["POST", "PUT"] = "POST"


class CloudEventsSettings(
    HttpReceiverSettings,
    tag="cloudevents",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A receiver of CloudEvents, in structured mode.

    source: the URI reference that names this sidelong. batch: whether several events may come in
    one request; else each comes in its own. signing: as of a webhook.
    """

    source: str = "/sidelong"
    batch: bool = False
    signing: tuple[Secret, ...] = ()


class SlackSettings(
    HttpReceiverSettings,
    tag="slack",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """An incoming webhook of Slack, or chat.postMessage with an Authorization header and a channel.

    title, text: templates; text is mrkdwn. channel: for chat.postMessage.
    """

    url: Secret
    title: str | None = None
    text: str | None = None
    channel: str | None = None


class TeamsSettings(
    HttpReceiverSettings,
    tag="teams",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A workflow of Microsoft Teams that begins when a webhook request is received.

    title, text: templates; text is Markdown.
    """

    url: Secret
    title: str | None = None
    text: str | None = None


class PagerDutySettings(
    HttpReceiverSettings,
    tag="pagerduty",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A service of PagerDuty with an integration "Events API V2".

    routing_key: the integration key. title: a template for the summary. resolve: whether a closed
    incident resolves its alert; else somebody does.
    """

    url: Value = "https://events.pagerduty.com/v2/enqueue"
    routing_key: Secret
    title: str | None = None
    resolve: bool = True


class AlertmanagerSettings(
    HttpReceiverSettings,
    tag="alertmanager",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Prometheus Alertmanager; of a cluster of several, each is a receiver.

    url: its own, without a path below which its API is. title, text: templates for the annotations
    summary and description. lasts: how long an incident fires that is told of no more. resolve:
    whether a closed incident resolves its alert; else `lasts` does.
    """

    title: str | None = None
    text: str | None = None
    lasts: str = "24h"
    resolve: bool = True


class OcsfSettings(
    HttpReceiverSettings,
    tag="ocsf",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A collector of OCSF, which takes a JSON array of findings."""


class EcsSettings(
    HttpReceiverSettings,
    tag="ecs",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Elasticsearch or OpenSearch, or a collector of ECS.

    bulk: whether url is that of `INDEX/_bulk`; else a JSON array of documents is sent.
    """

    bulk: bool = True


class SyslogSettings(
    msgspec.Struct,
    tag="syslog",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A syslog server, which is told CEF in messages of RFC 5424.

    name: what routes call it. url: tls://HOST[:6514], tcp://HOST:PORT or udp://HOST[:514]; the last
    two go unencrypted and need `allow_plain`. allow_private: as over HTTP. ca, cert, key: PEM files
    for TLS. facility: a name, such as local0. hostname: what to call this host. seconds: how long
    everything may take. max_bytes: of one message; 2,048 over UDP, where nothing else is said.
    """

    name: Name
    url: str
    allow_plain: bool = False
    allow_private: tuple[str, ...] = ()
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    facility: str = "local0"
    hostname: str | None = None
    seconds: float = 10.0
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=65_000)] | None = None

    def __post_init__(self) -> None:
        if self.facility not in FACILITIES:
            raise ValueError(f"facility is one of {', '.join(FACILITIES)}")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key go together")
        if self.seconds <= 0:
            raise ValueError("seconds is above zero")


class FileSettings(
    msgspec.Struct,
    tag="file",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A file to which a line is added for each event; it may be moved away at any time.

    name: what routes call it. path: that of the file. format: json is that of --output json.
    """

    name: Name
    path: str
    format: Literal["json", "cloudevents", "ocsf", "ecs", "cef"] = "json"


class KafkaReceiverSettings(
    msgspec.Struct,
    tag="kafka",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """A topic of Kafka, in which there is a message for each event, with the incident's id as key.

    name: what routes call it. servers, tls, sasl: as in [kafka], maybe of another one. topic: its
    whole name; it must exist. format: json is that of --output json. seconds: of everything.
    """

    name: Name
    servers: tuple[str, ...]
    topic: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
    tls: KafkaTls | None = None
    sasl: KafkaSasl | None = None
    format: Literal["json", "cloudevents", "ocsf", "ecs"] = "json"
    seconds: Annotated[float, msgspec.Meta(ge=2, le=120)] = 20.0

    def __post_init__(self) -> None:
        if not self.servers:
            raise ValueError("servers is empty")
        _ = self.kafka  # which checks them

    @property
    def kafka(self) -> KafkaSettings:
        """What to connect with."""
        return KafkaSettings(
            servers=self.servers,
            tls=self.tls,
            sasl=self.sasl,
            delivery_seconds=self.seconds,
            connect_seconds=min(10.0, self.seconds),
        )


class AppriseSettings(
    msgspec.Struct,
    tag="apprise",
    tag_field="type",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Any service that Apprise knows: e-mail, Telegram, Matrix, Discord, ntfy and a hundred others.

    name: what routes call it. url: in Apprise's notation, always a secret. It is Apprise that
    connects: `allow_private` and the limits of other receivers do not hold. title, text: templates.
    format: what those are; values in them are escaped for it. seconds: how long it may take.
    """

    name: Name
    url: Secret
    format: Literal["text", "markdown", "html"] = "text"
    title: str | None = None
    text: str | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=120)] = 20.0


ReceiverSettings = (
    WebhookSettings
    | CloudEventsSettings
    | SlackSettings
    | TeamsSettings
    | PagerDutySettings
    | AlertmanagerSettings
    | OcsfSettings
    | EcsSettings
    | SyslogSettings
    | FileSettings
    | KafkaReceiverSettings
    | AppriseSettings
)
