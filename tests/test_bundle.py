"""A bundle answers what its case answers, anywhere; one that was tampered with is refused."""

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from shop_case import TEST, shop_case

import sidelong
from sidelong.bundle_files import MOST_BYTES
from sidelong.case import Case
from sidelong.errors import ConfigError, SidelongError, SourceError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop_case().bundle(tmp_path_factory.mktemp("bundle") / "shop.evidence")


@pytest.fixture(scope="module")
def opened(bundle: Path) -> Case:
    return sidelong.open(bundle)


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def written(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, held in content.items():
            file.writestr(name, held)
    return path


def test_a_bundle_answers_what_its_case_answers(opened: Case) -> None:
    case = shop_case()
    assert list(opened.incidents) == list(case.incidents)
    assert_frame_equal(opened.contacts, case.contacts)
    assert_frame_equal(opened.names, case.names)
    assert_frame_equal(opened.timeline().frame, case.timeline().frame)
    assert_frame_equal(opened.graph().edges, case.graph().edges)
    assert_frame_equal(opened.graph().nodes, case.graph().nodes)
    for workload in ("shop/orders", "payments/payments", "kube-system/coredns", "no/body"):
        ours, theirs = opened.baseline(workload), case.baseline(workload)
        assert ours.facts == theirs.facts
        for part in ("frame", "domains", "declared", "usual"):
            assert_frame_equal(getattr(ours, part), getattr(theirs, part))
    for incident in case.incidents:
        assert opened.explain(incident) == case.explain(incident)
        assert opened.policy(incident) == case.policy(incident)
        assert opened.policy(incident, kind="kubernetes") == case.policy(
            incident, kind="kubernetes"
        )
        assert_frame_equal(opened.flows(incident).frame, case.flows(incident).frame)
        assert opened.flows(incident).note == case.flows(incident).note
        assert_frame_equal(opened.flows(incident, 7).frame, case.flows(incident, 7).frame)
        assert_frame_equal(opened.timeline(incident).frame, case.timeline(incident).frame)
        assert_frame_equal(opened.graph(incident).edges, case.graph(incident).edges)


def test_a_bundle_of_a_bundle_is_the_same_file(opened: Case, bundle: Path, tmp_path: Path) -> None:
    assert opened.bundle(tmp_path / "again").read_bytes() == bundle.read_bytes()


def test_chosen_incidents_go_in_without_the_others(tmp_path: Path) -> None:
    case = shop_case()
    one = case.incidents[1]
    opened = sidelong.open(case.bundle(tmp_path / "one.evidence", [one.id[:6]], limit=20))
    assert [incident.id for incident in opened.incidents] == [one.id]
    flows = opened.flows(one)
    assert (len(flows), flows.total) == (20, case.flows(one).total)
    assert "the bundle holds no more" in flows.note


def test_a_bundle_has_no_stream_to_replay(opened: Case) -> None:
    with pytest.raises(ConfigError, match="no stream that could be replayed"):
        opened.what_if()


def test_a_bundle_is_opened_alone(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="open it alone"):
        sidelong.open([bundle, TEST])


def test_nothing_in_a_bundle_can_be_executed(bundle: Path) -> None:
    names = entries(bundle).keys()
    assert {Path(name).suffix for name in names} == {".json", ".jsonl", ".parquet"}
    with zipfile.ZipFile(bundle) as file:
        assert not any((one.external_attr >> 16) & 0o111 for one in file.infolist())


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[dict[str, bytes]], None]:
    def at(content: dict[str, bytes]) -> None:
        content[name] = change(content[name])

    return at


def manifest(**values: object) -> Callable[[dict[str, bytes]], None]:
    return changed(
        "manifest.json", lambda held: json.dumps({**json.loads(held), **values}).encode()
    )


def added(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda content: content.update({name: b"x"})


def removed(name: str) -> Callable[[dict[str, bytes]], None]:
    def at(content: dict[str, bytes]) -> None:
        del content[name]

    return at


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (added("../../etc/passwd"), "no part of a bundle"),
        (added("/tmp/x.parquet"), "no part of a bundle"),
        (added("run.py"), "no part of a bundle"),
        (changed("incidents.jsonl", lambda held: held.replace(b"scan", b"scam")), "checksum"),
        (changed("flows.parquet", lambda held: held[:99] + b"!?" + held[101:]), "checksum"),
        (changed("manifest.json", lambda held: b"{}"), "bundle format None"),
        (changed("manifest.json", lambda held: b"[" * 100_000), "no JSON"),
        (manifest(format=99), "bundle format 99"),
        (manifest(surprise=1), "surprise"),
        (manifest(sight=None), "manifest.json"),
        (removed("flows.parquet"), "not in both"),
        (removed("manifest.json"), "no evidence bundle"),
    ],
)
def test_what_was_tampered_with_is_refused(
    bundle: Path,
    tmp_path: Path,
    tamper: Callable[[dict[str, bytes]], None],
    problem: str,
) -> None:
    content = entries(bundle)
    tamper(content)
    with pytest.raises(SourceError, match=problem):
        sidelong.open(written(tmp_path / "tampered.evidence", content))


def resealed(content: dict[str, bytes], name: str, held: bytes) -> None:
    """Put in another file, with a manifest that agrees."""
    import hashlib

    content[name] = held
    told = json.loads(content["manifest.json"])
    told["files"][name] = {"sha256": hashlib.sha256(held).hexdigest(), "bytes": len(held)}
    content["manifest.json"] = json.dumps(told).encode()


def test_a_table_with_other_columns_is_refused(bundle: Path, tmp_path: Path) -> None:
    content = entries(bundle)
    other = io.BytesIO()
    pl.DataFrame({"code": ["import os"]}).write_parquet(other)
    resealed(content, "contacts.parquet", other.getvalue())
    with pytest.raises(SourceError, match="other columns"):
        sidelong.open(written(tmp_path / "other.evidence", content))


def test_a_table_that_unpacks_to_more_than_memory_is_refused_before_it_does(
    bundle: Path, tmp_path: Path
) -> None:
    content = entries(bundle)
    other = io.BytesIO()
    rows = 21_000_000
    pl.select(src=pl.repeat("a", rows)).write_parquet(other, compression="zstd")
    assert len(other.getvalue()) < 1 << 20
    resealed(content, "contacts.parquet", other.getvalue())
    with pytest.raises(SourceError, match="rows, more than"):
        sidelong.open(written(tmp_path / "rows.evidence", content))


def test_a_zip_bomb_is_refused_by_what_it_claims(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.evidence"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, held in entries(bundle).items():
            file.writestr(name, held)
        file.getinfo("incidents.jsonl").file_size = MOST_BYTES
    with pytest.raises(SourceError, match="more than 1,024 MiB"):
        sidelong.open(path)


def test_a_file_that_is_there_twice_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.evidence"
    with zipfile.ZipFile(path, "w") as file:
        for name, held in entries(bundle).items():
            file.writestr(name, held)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("incidents.jsonl", b"")
    with pytest.raises(SourceError, match="twice"):
        sidelong.open(path)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_whatever_is_changed_in_a_bundle_is_an_error_that_says_so(
    bundle: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Bytes of the file itself, or of a table or the manifest behind a checksum that agrees."""
    held = bytearray(bundle.read_bytes())
    content = entries(bundle)
    name = data.draw(st.sampled_from([None, *sorted(content)]))
    target = held if name is None else bytearray(content[name])
    for _ in range(data.draw(st.integers(1, 4))):
        target[data.draw(st.integers(0, len(target) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "fuzzed.evidence"
    if name is None:
        path.write_bytes(held)
    elif name == "manifest.json":
        written(path, {**content, name: bytes(target)})
    else:
        resealed(content, name, bytes(target))
        written(path, content)
    with contextlib.suppress(SidelongError):
        case = sidelong.open(path)
        assert repr(case)
        for incident in case.incidents:
            assert repr(case.explain(incident))


@pytest.mark.parametrize("cut", [10, 1_000, -30])
def test_a_bundle_that_was_cut_off_is_refused(bundle: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.evidence"
    path.write_bytes(bundle.read_bytes()[:cut])
    with pytest.raises(SourceError):
        sidelong.open(path)


def test_a_bundle_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        shop_case().bundle(tmp_path / "nowhere" / "x.evidence")
    (tmp_path / "there.evidence").write_text("before")
    shop_case().bundle(tmp_path / "there.evidence")
    assert [one.name for one in tmp_path.iterdir()] == ["there.evidence"]
