"""Secrets by reference: the configuration names where one is, and nothing prints it.

A secret is read when it is needed, so that a rotated one is used without a restart.
"""

import base64
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

import msgspec

from sidelong.errors import ConfigError

__all__ = ["HIDDEN", "Secret", "masked", "shortened"]

HIDDEN: Final = "***"

_LARGEST: Final = 64 << 10
_UNPRINTABLE: Final = re.compile(r"\s+|[^ -~\u00a1-\u1fff\u2010-\u2027\u2100-\ud7ff\uf900-\ufffc]")


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: `{ env = "NAME" }` or `{ file = "/run/secrets/name" }`.

    env: the environment variable that holds it. file: the file that holds it; white space at its
    end is not part of it.
    """

    env: str | None = None
    file: str | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is either in env or in a file")

    def __str__(self) -> str:
        return f"the variable {self.env}" if self.env is not None else f"the file {self.file}"

    def reveal(self) -> str:
        """The secret itself. Errors: ConfigError that names its place, never its content."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise ConfigError(
                    f"a secret is in {self}, which is not set", hint="set it where sidelong starts"
                )
        else:
            value = self._content()
        if not value.strip():
            raise ConfigError(f"a secret is in {self}, which is empty", hint="write the secret")
        return value

    def _content(self) -> str:
        path = Path(self.file or "")
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) > _LARGEST:
                raise ConfigError(
                    f"a secret is in {self}, which has more than {_LARGEST} bytes",
                    hint="name the file of the secret alone",
                )
            return content.decode("utf-8").rstrip()
        except OSError as error:
            raise ConfigError(
                f"a secret is in {self}, which cannot be read: {error.strerror}",
                hint="check the path, who may read it, and whether it is mounted",
            ) from error
        except UnicodeDecodeError:
            # Without the cause, for that one holds the content.
            raise ConfigError(
                f"a secret is in {self}, which is not UTF-8", hint="encode binary ones in Base64"
            ) from None


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` with each of `secrets` hidden: as it is, quoted as in a URL, and in Base64.

    >>> masked("no user for key a/b, nor a%2Fb", ["a/b"])
    'no user for key ***, nor ***'
    """
    forms: set[str] = set()
    for secret in secrets:
        plain = secret.encode("utf-8", "surrogateescape")
        encoded = base64.b64encode(plain).decode()
        forms |= {secret, secret.strip(), quote(plain, safe=""), quote_plus(plain), quote(plain)}
        forms |= {encoded, encoded.rstrip("="), msgspec.json.encode(secret).decode()[1:-1]}
    for form in sorted(forms, key=len, reverse=True):
        if form:
            text = text.replace(form, HIDDEN)
    return text


def shortened(text: str, length: int = 200) -> str:
    """One line of at most `length` characters that a terminal and a log can print as they are.

    >>> shortened("so\\nmany   words", length=7)
    'so man…'
    """
    line = _UNPRINTABLE.sub(
        lambda found: " " if found[0].isspace() else "\N{REPLACEMENT CHARACTER}", text
    )
    line = re.sub(" +", " ", line).strip()
    return line if len(line) <= length else line[: length - 1] + "…"
