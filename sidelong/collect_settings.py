"""What can be set of `sidelong collect`: the section [collect]."""

from typing import Annotated, TypeAlias

import msgspec

__all__ = ["CollectSettings"]

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]


class CollectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When held flows are written: by whichever of the first three comes first.

    rotate_rows: how many they are. rotate_megabytes: of memory; on disk it is about a tenth.
    rotate_seconds: how old the first is. free_megabytes: how much of the disk is left free. keep:
    how much of the folder is kept, as 7d; all of it without. overlap_seconds: how far back a source
    that resumes by time may repeat itself. stop_seconds: how long an end by SIGTERM may take.
    flush_rows, flush_ms: for a topic, in place of rotate_rows and rotate_seconds.
    """

    rotate_rows: _Count = 200_000
    rotate_megabytes: _Count = 128
    rotate_seconds: Annotated[float, msgspec.Meta(gt=0)] = 60
    free_megabytes: Annotated[int, msgspec.Meta(ge=0)] = 1024
    keep: str | None = None
    overlap_seconds: _Count = 60
    stop_seconds: _Count = 20
    flush_rows: _Count = 1_000
    flush_ms: _Count = 500

    def of_topic(self) -> "CollectSettings":
        """The same, to be used for a topic."""
        return msgspec.structs.replace(
            self, rotate_rows=self.flush_rows, rotate_seconds=self.flush_ms / 1_000
        )
