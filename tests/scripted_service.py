"""`sidelong run` over a live source that plays a script, as a program that can be killed.

scripted_service.py FLOWS.parquet OPTION...: the flows come by the hundred, a little slower than
they are judged, and then silence.
"""

import sys
from pathlib import Path
from unittest.mock import patch

from scripted_live import ScriptedLive

from sidelong.ingest.parquet import ParquetFile


def main(flows: str, *options: str) -> int:
    """Run the service."""
    from sidelong.cli import run

    (batch,) = ParquetFile(flows, Path(flows)).batches()
    source = ScriptedLive(batch.flows, batch=400, pause=0.05, endless=True)
    with patch("sidelong.resuming.open_inputs", lambda *_: [source]):
        return run(["run", *options])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
