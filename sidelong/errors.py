"""The errors a user can act on.

SidelongError
├── ConfigError   an option, a setting or a baseline that cannot be used       exit status 2
└── SourceError   a source that cannot be reached or read                      exit status 3

Each carries the problem with the value seen, and a hint: what to try. This module imports nothing
of sidelong, so that every stage may raise from it.
"""

__all__ = ["ConfigError", "SidelongError", "SourceError"]


class SidelongError(Exception):
    """Something the user can put right: `problem` says what was seen, `hint` what to try."""

    exit_status = 2

    def __init__(self, problem: str, *, hint: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem}\n  try: {self.hint}"


class ConfigError(SidelongError):
    """A wrong option, setting, map or baseline; raised before the first flow is read."""


class SourceError(SidelongError):
    """A source that cannot be reached, opened or understood."""

    exit_status = 3
