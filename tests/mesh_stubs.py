"""Writes the Python stubs of what Envoy, OpenTelemetry and flow collectors send."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from hubble_stubs import BARE_MAPPING, CHANGES, ROOT

__all__ = ["NAMES", "generate"]

NAMES: Final = ("envoy_als", "flow_records", "otlp_logs")


def generate(folder: Path) -> dict[str, str]:
    """The stubs as they should be, by file name; protoc writes its own into `folder`."""
    protos = [f"sidelong/ingest/{name}.proto" for name in NAMES]
    command = ["-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={folder}"]
    command += [f"--pyi_out={folder}", *protos]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    stubs = {path.name: path.read_text() for path in folder.rglob("*_pb2.py*")}
    for name in NAMES:
        for pattern, instead in CHANGES:
            text, count = re.subn(pattern, instead, stubs[f"{name}_pb2.py"], flags=re.DOTALL)
            assert count == 1, f"protoc writes its stubs in another way now: no {pattern}"
            stubs[f"{name}_pb2.py"] = text
        typed = re.sub(BARE_MAPPING, "_Mapping[str, object]", stubs[f"{name}_pb2.pyi"])
        stubs[f"{name}_pb2.pyi"] = typed
    return stubs


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in generate(Path(folder)).items():
            (ROOT / "ingest" / name).write_text(text)


if __name__ == "__main__":
    main()
