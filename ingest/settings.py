"""What can be set of how inputs are read: one section for each source that has settings."""

import msgspec

from sidelong.ingest.csv_settings import CsvSettings
from sidelong.ingest.envoy_logs import EnvoySettings
from sidelong.ingest.hubble_settings import HubbleSettings
from sidelong.ingest.kafka_settings import KafkaSettings
from sidelong.ingest.linkerd_logs import LinkerdSettings
from sidelong.ingest.listening import ServerSettings
from sidelong.ingest.raw_settings import MessageSettings

__all__ = ["InputSettings"]


class InputSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of every source, each at its defaults."""

    als: ServerSettings = ServerSettings()
    csv: CsvSettings = CsvSettings()
    envoy: EnvoySettings = EnvoySettings()
    hubble: HubbleSettings = HubbleSettings()
    kafka: KafkaSettings = KafkaSettings()
    linkerd: LinkerdSettings = LinkerdSettings()
    messages: MessageSettings = MessageSettings()
    otlp: ServerSettings = ServerSettings()
