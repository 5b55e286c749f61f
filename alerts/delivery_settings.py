"""What can be set of how alerts are delivered: the section [delivery]."""

import msgspec

__all__ = ["DeliverySettings"]


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How alerts are kept until they are delivered, and how often that is tried.

    outbox: the SQLite file that keeps them, on a local disk; workers that share it share the work.
    dead_letters: the file that what cannot be delivered is appended to, one JSON object a line;
    without it, the outbox's name with .dead.jsonl. dead_after_seconds: how long delivery is tried
    before that. parallel: how many messages may be under way to one receiver; those of one incident
    always go one after the other. lease_seconds: after how long another worker takes over what one
    that hangs had begun; of one that died it does at once. first_retry_seconds,
    longest_retry_seconds: the pause after the first failure, which doubles with each, and its
    bound. longest_retry_after_seconds: how long a receiver may ask to be left alone.
    breaker_failures: after so many failures in a row a receiver is left alone for breaker_seconds,
    and twice as long each time it then fails again, up to longest_breaker_seconds.
    remember_seconds, remember_messages: how long, and how many, delivered messages are known, so
    that none is sent twice. most_messages, most_bytes: what may wait in all; beyond that the oldest
    of the longest queue become dead letters. most_dead: how many of those are kept for `redeliver`;
    the file has them all. dead_letters_bytes: at this size the file is renamed to .1, in place of
    the one before. drain_seconds: how long, at the end, is waited for what is due.
    """

    outbox: str = "sidelong.outbox"
    dead_letters: str | None = None
    dead_after_seconds: float = 86_400.0
    parallel: int = 1
    lease_seconds: float = 60.0
    first_retry_seconds: float = 1.0
    longest_retry_seconds: float = 300.0
    longest_retry_after_seconds: float = 3_600.0
    breaker_failures: int = 5
    breaker_seconds: float = 15.0
    longest_breaker_seconds: float = 60.0
    remember_seconds: float = 7 * 86_400.0
    remember_messages: int = 200_000
    most_messages: int = 100_000
    most_bytes: int = 256 << 20
    most_dead: int = 10_000
    dead_letters_bytes: int = 64 << 20
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float | int) and value <= 0:
                raise ValueError(f"{name} is {value}, but must be above zero")
        if self.parallel > 64:
            raise ValueError(
                f"parallel is {self.parallel}, but at most 64 threads serve a receiver"
            )
