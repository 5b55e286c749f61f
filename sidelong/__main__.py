"""`python -m sidelong` is the command `sidelong`."""

from sidelong.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
