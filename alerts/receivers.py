"""From settings to receivers."""

from collections.abc import Sequence

from sidelong.alerts.http_client import HttpClient
from sidelong.alerts.receiver import Receiver
from sidelong.alerts.receiver_apprise import AppriseReceiver
from sidelong.alerts.receiver_file import FileReceiver
from sidelong.alerts.receiver_http import Composer, HttpReceiver
from sidelong.alerts.receiver_services import Alertmanager, Ecs, Ocsf, PagerDuty, Slack, Teams
from sidelong.alerts.receiver_settings import (
    AlertmanagerSettings,
    AppriseSettings,
    CloudEventsSettings,
    EcsSettings,
    FileSettings,
    HttpReceiverSettings,
    KafkaReceiverSettings,
    PagerDutySettings,
    ReceiverSettings,
    SlackSettings,
    SyslogSettings,
    TeamsSettings,
    WebhookSettings,
)
from sidelong.alerts.receiver_syslog import SyslogReceiver
from sidelong.alerts.receiver_webhooks import CloudEvents, Webhook
from sidelong.errors import ConfigError

__all__ = ["build_receiver", "build_receivers"]


def build_receiver(settings: ReceiverSettings, *, client: HttpClient | None = None) -> Receiver:
    """The receiver that `settings` describe; its templates are tried, and no secret is read.

    client: for tests. Errors: ConfigError for what cannot work.
    """
    if isinstance(settings, SyslogSettings):
        return SyslogReceiver(settings)
    if isinstance(settings, FileSettings):
        return FileReceiver(settings)
    if isinstance(settings, AppriseSettings):
        return AppriseReceiver(settings)
    if isinstance(settings, KafkaReceiverSettings):
        from sidelong.alerts.receiver_kafka import KafkaReceiver  # its library: not for the others

        return KafkaReceiver(settings)
    return HttpReceiver(settings, _composer(settings), client)


def build_receivers(settings: Sequence[ReceiverSettings]) -> dict[str, Receiver]:
    """All of them by name. Errors: ConfigError, also when two have the same name."""
    receivers: dict[str, Receiver] = {}
    for one in settings:
        if one.name in receivers:
            raise ConfigError(
                f"two receivers are called {one.name}", hint="give each a name of its own"
            )
        receivers[one.name] = build_receiver(one)
    return receivers


def _composer(settings: HttpReceiverSettings) -> Composer:
    match settings:
        case WebhookSettings():
            return Webhook(settings)
        case CloudEventsSettings():
            return CloudEvents(settings)
        case SlackSettings():
            return Slack(settings)
        case TeamsSettings():
            return Teams(settings)
        case PagerDutySettings():
            return PagerDuty(settings)
        case AlertmanagerSettings():
            return Alertmanager(settings)
        case EcsSettings():
            return Ecs(settings)
        case _:
            return Ocsf()
