"""What the library does not do for a member of a group by itself (kafka-python 3.0.12).

- A rebalance that ends between two polls is thrown away, and begun anew by the next poll. Members
  that do something between polls could so keep each other from ever getting their partitions.
- A member whose name another process took goes on reading as if nothing was.
"""

from typing import Any, Final

from kafka import errors

__all__ = ["Membership"]


class Membership:
    """Looks after the membership of `consumer`, one of the library, from its building on."""

    def __init__(self, consumer: Any) -> None:
        self._coordinator: Final = consumer._coordinator
        self._send: Final = self._coordinator._send_heartbeat_request
        self._join: Final = self._coordinator._do_join_and_sync_async
        self._complete: Final = self._coordinator._on_join_complete_async
        self._fenced: BaseException | None = None
        self._joined: tuple[object, object] | None = None  # generation, assignment
        self._coordinator._send_heartbeat_request = self._heartbeat
        self._coordinator._do_join_and_sync_async = self._join_once
        self._coordinator._on_join_complete_async = self._completed

    def check(self) -> None:
        """Errors: the library's FencedInstanceIdError once another process took the name."""
        if self._fenced is not None:
            raise self._fenced

    async def _heartbeat(self, *given: Any, **named: Any) -> Any:
        try:
            return await self._send(*given, **named)
        except errors.FencedInstanceIdError as error:
            self._fenced = error
            raise

    async def _join_once(self) -> object:
        """Join, unless that is done already and nobody has taken it up."""
        joined, self._joined = self._joined, None
        if joined is not None and joined[0] == self._coordinator._generation:
            return joined[1]
        try:
            assignment: object = await self._join()
        except errors.FencedInstanceIdError as error:
            self._fenced = error
            raise
        self._joined = (self._coordinator._generation, assignment)
        return assignment

    async def _completed(self, *given: Any, **named: Any) -> Any:
        self._joined = None
        return await self._complete(*given, **named)
