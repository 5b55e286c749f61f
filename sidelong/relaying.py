"""`sidelong collect` from a topic of Kafka into another."""

from collections.abc import Sequence

from rich.text import Text

from sidelong.collect_settings import CollectSettings
from sidelong.errors import ConfigError
from sidelong.ingest.settings import InputSettings
from sidelong.ingest.topic_address import TopicAddress, topic_address
from sidelong.progress import Reading
from sidelong.relay import Relay
from sidelong.signals import stop_by_signal
from sidelong.terminal import Terminal, plural

__all__ = ["relayed"]


def relayed(
    inputs: Sequence[str],
    target: TopicAddress,
    terminal: Terminal,
    settings: InputSettings,
    chosen: CollectSettings,
    *,
    seconds: float | None,
    most_flows: int | None,
) -> int:
    """Read the topic that `inputs` names and write `target`, until told to end; returns 0.

    Errors: ConfigError for more inputs than that one; as `Relay`.
    """
    if len(inputs) != 1:
        raise ConfigError(
            f"{', '.join(inputs)} cannot be read together into {target.url}",
            hint="collect each topic into the other by a process of its own",
        )
    source = topic_address(inputs[0], settings.kafka)

    def say(text: str) -> None:
        with reading.aside():
            terminal.say(f"sidelong: {text}")

    relay = Relay(source, target, settings, chosen, say)
    reading = Reading(terminal, relay.tally, "relaying", None)

    def step() -> None:
        told = f"  {plural(relay.tally.flows, 'flow')} in {plural(relay.messages, 'message')}"
        reading.update([Text(told, style="dim")])

    try:
        with stop_by_signal() as stop, reading:
            relay.run(stop, seconds=seconds, most_flows=most_flows, step=step)
    finally:
        terminal.bad_rows(relay.tally.bad.count, relay.tally.bad.samples)
        if relay.messages:
            size = relay.size_bytes / (1 << 20)
            terminal.tell(
                f"collected {relay.tally} out of {plural(relay.read, 'message')} into "
                f"{plural(relay.messages, 'message')} in {target.url}, {size:,.1f} MiB, "
                f"{reading.rate:,.0f} flows/s"
            )
        if relay.dead_letters:
            terminal.say(f"{plural(relay.dead_letters, 'message')} sent to {source.topic}.dlq")
    return 0
