"""A file that is there whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["draft_of", "mode_of_new_files"]


@contextmanager
def draft_of(target: Path) -> Iterator[Path]:
    """An empty file beside `target` that takes its place when the block ends.

    Where the block raises, what was there before is there still. Errors: OSError, when nothing can
    be put there.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(mode_of_new_files())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def mode_of_new_files() -> int:
    """The permissions that a new file gets here; a temporary one is only for its owner."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
