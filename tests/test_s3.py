"""State and models in S3, over HTTP: moto's server, with what AWS's own variables say."""

from collections.abc import Iterator

import fsspec
import pytest

from sidelong.errors import SourceError
from sidelong.ingest.state_store import StateError, StateStore
from sidelong.models.baseline import Baseline
from sidelong.models.store import ModelStore

SECRET = "not-to-be-shown"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "somebody"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("AWS_CONFIG_FILE", "/nowhere"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
    ):
        monkeypatch.setenv(name, value)
    yield
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    if "sidelong" not in listed(""):
        fsspec.filesystem("s3").mkdir("sidelong", region_name="eu-central-1")
    return "s3://sidelong"


def listed(path: str) -> list[str]:
    store = fsspec.filesystem("s3")
    store.invalidate_cache()
    return [str(name) for name in store.ls(path, detail=False)]


def test_snapshots_are_kept_two_of_each_and_seen_by_others(bucket: str) -> None:
    mine, other = (StateStore(f"{bucket}/prod/state") for _ in range(2))
    assert mine.load("detect.0") is None
    for offset in range(4):
        mine.save("detect.0", {"stream": "s", "offset": offset})
        loaded = other.load("detect.0")
        assert loaded is not None
        assert loaded["offset"] == offset
    assert [saved.state["offset"] for saved in other.readable("detect.0")] == [3, 2]
    assert len(listed("sidelong/prod/state/detect.0")) == 2


def test_a_large_snapshot_goes_in_parts_and_comes_back_whole(bucket: str) -> None:
    store = StateStore(f"{bucket}/large")
    store.save("detect.0", {"offset": 1, "table": bytes(range(256)) * (60 << 12)})
    loaded = store.load("detect.0")
    assert loaded is not None
    assert len(loaded["table"]) == 60 << 20


@pytest.mark.usefixtures("bucket")
def test_a_wrong_bucket_is_said_and_not_made() -> None:
    store = StateStore("s3://sidelnog/state")
    with pytest.raises(StateError, match=r"detect.0 cannot be kept in s3://sidelnog/state"):
        store.save("detect.0", {"offset": 1})
    assert listed("") == ["sidelong"]


def test_models_are_published_and_found_by_others(bucket: str) -> None:
    store = ModelStore(f"{bucket}/models")
    assert store.latest() is None
    versions = [store.publish(Baseline.empty(), keep=2) for _ in range(3)]
    other = ModelStore(f"{bucket}/models")
    assert other.latest() == versions[-1]
    assert other.versions() == versions[1:]
    assert isinstance(other.load(), Baseline)


def test_a_store_out_of_reach_is_said_without_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    state = StateStore("s3://sidelong/state")
    for use in (lambda: state.save("detect.0", {"offset": 1}), lambda: state.load("detect.0")):
        with pytest.raises(StateError, match=r"s3://sidelong/state: .*127\.0\.0\.1:1") as caught:
            use()
        assert SECRET not in str(caught.value)
    with pytest.raises(SourceError, match=r"model store s3://sidelong/models cannot be read"):
        ModelStore("s3://sidelong/models").latest()


@pytest.mark.usefixtures("bucket")
def test_without_credentials_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with pytest.raises(StateError, match="credentials"):
        StateStore("s3://sidelong/state").load("detect.0")
