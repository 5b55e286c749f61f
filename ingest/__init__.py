"""Bytes to flows: one file per source, then who talks, in which direction, counted once."""
