"""Writes the Python stubs of ingest/hubble.proto: `make stubs`, or `python tests/hubble_stubs.py`.

protoc's output is changed in three places. It would refuse any protobuf older than the compiler,
though it needs nothing new; that check goes. It would put its messages into the pool that all of a
process share, where another program's stubs of Hubble's API would clash with them; they get a pool
of their own. And mypy wants to know what a mapping maps.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["generate"]

ROOT: Final = Path(__file__).resolve().parent.parent
PROTO: Final = "sidelong/ingest/hubble.proto"  # through the link: it is the module's name

CHANGES: Final = (
    (r"from google\.protobuf import runtime_version as _runtime_version\n", ""),
    (r"_runtime_version\.ValidateProtobufRuntimeVersion\(.*?\n\)\n", ""),
    (r"# Protobuf Python Version: [^\n]*\n", ""),
    (r"_descriptor_pool\.Default\(\)", "_descriptor_pool.DescriptorPool()"),
)
BARE_MAPPING: Final = r"\b_Mapping\b(?=\])"


def generate(folder: Path) -> dict[str, str]:
    """The stubs as they should be, by file name; protoc writes its own into `folder`."""
    command = ["-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={folder}"]
    command += [f"--pyi_out={folder}", PROTO]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    stubs = {path.name: path.read_text() for path in folder.rglob("hubble_pb2.py*")}
    for pattern, instead in CHANGES:
        changed, count = re.subn(pattern, instead, stubs["hubble_pb2.py"], flags=re.DOTALL)
        assert count == 1, f"protoc writes its stubs in another way now: no {pattern}"
        stubs["hubble_pb2.py"] = changed
    typed = re.sub(BARE_MAPPING, "_Mapping[str, object]", stubs["hubble_pb2.pyi"])
    return {**stubs, "hubble_pb2.pyi": typed}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in generate(Path(folder)).items():
            (ROOT / "ingest" / name).write_text(text)


if __name__ == "__main__":
    main()
