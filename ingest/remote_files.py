"""What libraries of object stores raise, as errors of files: whoever uses fsspec expects OSError,
and S3 without credentials, or out of reach, raises what only its own library knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["has_folders", "plain_errors", "protocols"]

_OBJECTS: Final = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors: OSError for everything that goes wrong inside, FileNotFoundError as it is."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise OSError(f"{said or type(error).__name__}") from error


def protocols(filesystem: Any) -> tuple[str, ...]:
    """The kinds of URL that a filesystem of fsspec is for."""
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def has_folders(filesystem: Any) -> bool:
    """Whether folders must be made. In an object store there are none, and what would be made of
    a wrong name is a bucket."""
    return _OBJECTS.isdisjoint(protocols(filesystem))
