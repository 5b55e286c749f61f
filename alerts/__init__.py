"""Evidence to incidents: what a person reads, opened once, updated as it grows, closed."""
