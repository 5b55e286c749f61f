"""The model store: whoever reads finds a whole version, whatever became of the publisher."""

import json
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import fsspec
import polars as pl
import pytest
from builders import known
from forest_builders import jumpy_forests

from sidelong.baseline_places import load_baseline, read_baseline, save_baseline
from sidelong.baseline_watch import BaselineWatch
from sidelong.errors import ConfigError, SourceError
from sidelong.models.baseline import Baseline
from sidelong.models.feedback import Edge, Feedback
from sidelong.models.store import ModelStore, is_store

OLD = known({"shop/web -> shop/api:8080": 100})
NEW = replace(
    known({"shop/web -> shop/api:8080": 100, "shop/api -> data/db:5432": 90}),
    forests=jumpy_forests(["shop/web"]),
)


@pytest.fixture(params=["folder", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield f"file://{tmp_path}/models"
        return
    root = f"memory://{uuid4().hex}"
    yield root
    filesystem, path = fsspec.core.url_to_fs(root)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def edges(baseline: Baseline) -> int:
    return baseline.edge_keys.size


def test_what_is_loaded_is_what_was_published(url: str) -> None:
    store = ModelStore(url)
    assert store.latest() is None
    version = store.publish(NEW)
    assert store.latest() == version
    again = store.load()
    assert again.description() == NEW.description()
    assert again.contacts.equals(NEW.contacts)


def test_the_newest_version_is_loaded_and_older_ones_by_name(url: str) -> None:
    store = ModelStore(url)
    first, second = store.publish(OLD), store.publish(NEW)
    assert first < second
    assert edges(store.load()) == 2
    assert edges(store.load(first)) == 1


def test_so_many_versions_are_kept(url: str) -> None:
    store = ModelStore(url)
    published = [store.publish(OLD, keep=3) for _ in range(5)]
    assert store.versions() == published[-3:]
    assert edges(store.load()) == 1


def test_a_publisher_that_dies_at_any_step_leaves_the_version_before(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is taken to be the last that happened, and to have been left half done."""
    store = ModelStore(url)
    before = store.publish(OLD)
    write = ModelStore._write
    steps = 0

    class Died(BaseException):
        pass

    for survived in range(100):
        left = survived

        def dying(self: ModelStore, name: str, content: bytes) -> None:
            nonlocal left
            if not left:
                if not name.endswith("LATEST"):
                    write(self, name, content[: len(content) // 2])
                raise Died
            left -= 1
            write(self, name, content)

        monkeypatch.setattr(ModelStore, "_write", dying)
        try:
            store.publish(NEW)
        except Died:
            steps += 1
            assert store.latest() == before
            assert edges(ModelStore(url).load()) == 1
        else:
            break
    assert steps > 10
    assert edges(ModelStore(url).load()) == 2


def test_whoever_watches_sees_a_new_version_and_new_feedback(url: str, tmp_path: Path) -> None:
    store = ModelStore(url)
    seen = [store.signature()]
    store.publish(OLD)
    seen.append(store.signature())
    assert store.signature() == seen[-1]
    filesystem, path = fsspec.core.url_to_fs(url)
    edge = Edge(actor="shop/web", peer="data/db", port=5432)
    Feedback(known_edges=(edge,)).save(tmp_path)
    filesystem.pipe_file(f"{path}/feedback.json", (tmp_path / "feedback.json").read_bytes())
    seen.append(store.signature())
    assert len(set(seen)) == 3
    assert edges(store.load()) > edges(store.read()) == 1


@pytest.mark.parametrize("name", ["contacts.parquet", "forests.npz", "manifest.json", "files.json"])
def test_a_damaged_version_is_refused(url: str, name: str) -> None:
    store = ModelStore(url)
    version = store.publish(NEW)
    filesystem, path = fsspec.core.url_to_fs(url)
    place = f"{path}/versions/{version}/{name}"
    filesystem.pipe_file(place, filesystem.cat_file(place)[:-3])
    with pytest.raises(ConfigError, match=f"version {version} in .* is damaged"):
        store.load()


def test_a_version_of_another_format_is_refused_by_name(url: str, tmp_path: Path) -> None:
    store = ModelStore(url)
    version = store.publish(OLD)
    filesystem, path = fsspec.core.url_to_fs(url)
    folder = f"{path}/versions/{version}"
    manifest = json.loads(filesystem.cat_file(f"{folder}/manifest.json")) | {"format": 99}
    content = json.dumps(manifest).encode()
    filesystem.pipe_file(f"{folder}/manifest.json", content)
    files = json.loads(filesystem.cat_file(f"{folder}/files.json"))
    files["manifest.json"] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    filesystem.pipe_file(f"{folder}/files.json", json.dumps(files).encode())
    with pytest.raises(ConfigError, match=f"{version} has baseline format 99, but this version"):
        store.load()


def test_a_version_that_is_not_there_is_named(url: str) -> None:
    store = ModelStore(url)
    with pytest.raises(ConfigError, match="no baseline in"):
        store.load()
    version = store.publish(OLD)
    with pytest.raises(ConfigError, match="no version 20200101T000000000000Z-00000000") as caught:
        store.load("20200101T000000000000Z-00000000")
    assert version in str(caught.value.hint)


def test_a_latest_that_names_no_version_leads_nowhere(url: str) -> None:
    store = ModelStore(url)
    store.publish(OLD)
    filesystem, path = fsspec.core.url_to_fs(url)
    for text in (b"", b"[]", b'{"version": "../../etc"}'):
        filesystem.pipe_file(f"{path}/LATEST", text)
        with pytest.raises(ConfigError, match="does not name a version"):
            store.load()


def test_a_file_listed_outside_its_version_is_not_read(url: str) -> None:
    store = ModelStore(url)
    version = store.publish(OLD)
    filesystem, path = fsspec.core.url_to_fs(url)
    files = {"../../LATEST": {"bytes": 1, "sha256": ""}}
    filesystem.pipe_file(f"{path}/versions/{version}/files.json", json.dumps(files).encode())
    with pytest.raises(ConfigError, match="is damaged"):
        store.load()


def test_a_store_out_of_reach_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be written to"):
        ModelStore(f"file://{tmp_path}/file/models").publish(OLD)


def test_a_url_of_an_unknown_kind_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="cannot be kept at nosuch://bucket"):
        ModelStore("nosuch://user:secret@bucket/models?key=secret")


def test_a_folder_is_a_store_once_one_was_published_there(tmp_path: Path) -> None:
    plain, store = str(tmp_path / "plain"), f"file://{tmp_path}/store"
    assert save_baseline(OLD, plain) == f"saved as {plain}"
    assert "published as version" in save_baseline(NEW, store)
    assert not is_store(plain)
    assert is_store(str(tmp_path / "store"))
    assert edges(load_baseline(plain)) == 1
    assert edges(load_baseline(str(tmp_path / "store"))) == 2
    assert isinstance(read_baseline(store).contacts, pl.DataFrame)


def test_a_running_service_takes_up_a_new_version_and_keeps_the_old_one_over_a_bad(
    url: str,
) -> None:
    store, now, said = ModelStore(url), [0.0], list[str]()
    store.publish(OLD)
    watch = BaselineWatch(url, said.append, ticks=lambda: now[0])
    first = watch.newest()
    version = store.publish(NEW)
    assert watch.newest() is first  # it does not look every time
    now[0] += 10
    second = watch.newest()
    assert (second.number, edges(second.baseline)) == (1, 2)
    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.pipe_file(f"{path}/LATEST", b"nonsense")
    for _ in range(3):
        now[0] += 10
        assert watch.newest() is second
    assert len(said) == 2
    assert said[0].startswith("judging by the new baseline")
    assert "does not name a version" in said[1]
    filesystem.pipe_file(f"{path}/LATEST", json.dumps({"version": version}).encode())
    now[0] += 10
    assert watch.newest() is second  # the same as before is no new one
