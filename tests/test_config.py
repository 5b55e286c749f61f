"""Settings from a file: what is wrong with them is said before anything is read."""

from pathlib import Path

import pytest

from sidelong.config import Config, read_config
from sidelong.errors import ConfigError


def written(folder: Path, text: str) -> str:
    path = folder / "sidelong.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_without_a_file_everything_is_at_its_default() -> None:
    assert read_config(None) == Config()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, "# nothing yet\n")) == Config()


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml cannot be read: No such file"):
        read_config(str(tmp_path / "no.toml"))


def test_what_is_not_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not TOML: .* line 1"):
        read_config(written(tmp_path, "[hubble\n"))


def test_a_section_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown field `hubbel`"):
        read_config(written(tmp_path, "[hubbel]\nsince = '5m'\n"))
