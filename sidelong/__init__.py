"""sidelong: watches east-west traffic and explains, in one sentence, what looks wrong."""

__version__ = "0.1.0"
