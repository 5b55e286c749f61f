"""The rules of the house: layout, imports, packaging. Each of them was broken somewhere once."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
STAGES: Final = ("ingest", "features", "models", "alerts")  # in the order of a flow
FOLDERS: Final = (*STAGES, "sidelong")


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def tracked() -> list[str]:
    return [name for name in git("ls-files", "-z").split("\0") if name and (ROOT / name).exists()]


def modules() -> list[Path]:
    """What is written by hand."""
    found = (path for folder in FOLDERS for path in (ROOT / folder).glob("*.py"))
    return sorted(path for path in found if not path.stem.endswith("_pb2"))


def imported(module: Path) -> set[str]:
    """The parts of sidelong that a module imports, wherever in it: `ingest`, `pipeline`, ..."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names]
        else:
            continue
        names |= {name.split(".")[1] for name in whole if name.startswith("sidelong.")}
    return names


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_folder_linked_into_the_package(stage: str) -> None:
    link = ROOT / "sidelong" / stage
    assert (ROOT / stage).is_dir()
    assert git("ls-files", "--stage", str(link)).startswith("120000 ")
    assert link.readlink() == Path("..", stage)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_are_flat(folder: str) -> None:
    inside = [name for name in tracked() if name.startswith(f"{folder}/")]
    assert inside
    assert [name for name in inside if name.count("/") > 1] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_never_imported_under_its_bare_name(stage: str) -> None:
    assert stage not in sys.modules


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(module: Path) -> None:
    stage = module.parent.name
    if stage == "sidelong":
        return
    allowed = {*STAGES[: STAGES.index(stage) + 1], "errors"}
    assert imported(module) <= allowed


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_it_is_for_and_what_it_offers(module: Path) -> None:
    tree = ast.parse(module.read_bytes())
    assert ast.get_docstring(tree)
    if module.name == "__init__.py":
        return
    targets = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    targets += [[node.target] for node in tree.body if isinstance(node, ast.AnnAssign)]
    names = [target.id for group in targets for target in group if isinstance(target, ast.Name)]
    assert "__all__" in names


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_one_subject(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 330
    assert module.stem not in {"utils", "helpers", "manager", "common", "misc", "data", "process"}


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_transport_knows_the_client_of_kafka(module: Path) -> None:
    """So that another client would cost only those modules."""
    if module.parent.name == "ingest" and module.stem.startswith("kafka_"):
        return
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        assert not any(name.partition(".")[0] == "kafka" for name in names)


def test_no_tracked_file_names_a_package_registry() -> None:
    # In halves, or this file would be the one that does.
    halves = [
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("registry.npm", "js.org"),
        ("registry.yarn", "pkg.com"),
        ("crates", ".io"),
        ("proxy.go", "lang.org"),
        ("repo1.maven", ".org"),
        ("repo.maven", ".apache.org"),
        ("deb.deb", "ian.org"),
    ]
    hosts = ["".join(pair).encode() for pair in halves]
    naming = [
        name
        for name in tracked()
        if (ROOT / name).is_file() and any(host in (ROOT / name).read_bytes() for host in hosts)
    ]
    assert naming == []


def test_the_wheel_holds_what_git_tracks_and_nothing_else(tmp_path: Path) -> None:
    """Built from the index, so that neither stray files nor an old build/ can make it pass."""
    checkout = tmp_path / "checkout"
    git("checkout-index", "--all", f"--prefix={checkout}/")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        name if name.startswith("sidelong/") else f"sidelong/{name}"
        for name in git("ls-files", "--", *FOLDERS).splitlines()
        if name.endswith((".py", ".pyi", "/py.typed", ".css", ".html", ".js", ".svg"))
    }
    assert packed == expected


ONLY_DECLARED = """
import importlib, importlib.metadata, re, sys
from importlib.abc import MetaPathFinder

declared, waiting = set(), ["sidelong"]
while waiting:
    name = waiting.pop()
    if name in declared:
        continue
    declared.add(name)
    for line in importlib.metadata.requires(name) or ():
        requirement, _, marker = line.partition(";")
        if not re.search("extra|sys_platform|platform_system", marker):
            waiting.append(re.match("[A-Za-z0-9._-]+", requirement)[0].lower())
installed = importlib.metadata.packages_distributions()
others = {
    module
    for module, owners in installed.items()
    if not declared & {owner.lower().replace("_", "-") for owner in owners}
}

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"{name} is no declared dependency", name=name)
        return None

sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    importlib.import_module(name)
from sidelong.cli import run
sys.exit(run(["--help"]))
"""


def test_every_module_runs_on_the_declared_dependencies_alone() -> None:
    """What only the development environment has is hidden, as in a user's installation."""
    names = [
        ".".join(("sidelong", *(() if folder == "sidelong" else (folder,)), path.stem))
        for folder in FOLDERS
        for path in (ROOT / folder).glob("*.py")
        if path.stem not in ("__init__", "__main__")
    ]
    ran = subprocess.run(
        [sys.executable, "-c", ONLY_DECLARED, *names], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("Usage: sidelong")
