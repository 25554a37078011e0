"""Models of the hub's cache: a copy that is whole is used, one in part is fetched again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from legos.errors import ConfigError
from legos.lm.locate import is_here, locate
from legos.lm.settings import LanguageModelSource

SOURCE = LanguageModelSource.model_validate("owner/name")
FILES = {
    "config.json": "{}",
    "tokenizer.json": "{}",
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    ),
    "model-1.safetensors": "",
    "model-2.safetensors": "",
}


class Hub:
    """Stands for the hub: a cache, and whole files that can be fetched while there is a network."""

    def __init__(self, folder: Path) -> None:
        self.cache, self.fetched, self.online = folder, 0, True
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_text(text)

    def snapshot_download(self, hub: str, *, local_files_only: bool = False, **_: Any) -> str:
        if not local_files_only:
            if not self.online:
                raise OSError("no network here")
            self.fetched += 1
            for name, text in FILES.items():
                (self.cache / name).write_text(text)
        elif not self.cache.is_dir():
            raise OSError("not in the cache")
        return str(self.cache)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_a_whole_copy_is_used_without_a_network(hub: Hub) -> None:
    hub.online = False
    assert locate(SOURCE).folder == hub.cache
    assert is_here(SOURCE)


@pytest.mark.parametrize(
    "missing",
    ["config.json", "tokenizer.json", "model.safetensors.index.json", "model-2.safetensors"],
)
def test_a_copy_in_part_is_fetched(missing: str, hub: Hub) -> None:
    (hub.cache / missing).unlink()
    assert not is_here(SOURCE)
    assert locate(SOURCE).folder == hub.cache
    assert hub.fetched == 1
    assert (hub.cache / missing).is_file()


def test_a_link_into_nothing_is_a_missing_file(hub: Hub) -> None:
    (hub.cache / "model-1.safetensors").unlink()
    (hub.cache / "model-1.safetensors").symlink_to(hub.cache / "blob")
    assert not is_here(SOURCE)


def test_without_a_network_the_missing_file_is_named(hub: Hub) -> None:
    hub.online = False
    (hub.cache / "model-2.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"in part alone \(model-2\.safetensors is missing from"):
        locate(SOURCE)
    shutil.rmtree(hub.cache)
    with pytest.raises(ConfigError, match=r"\(owner/name\) is not on this machine and could not"):
        locate(SOURCE)


def test_a_tokenizer_of_its_own_is_no_missing_file(hub: Hub) -> None:
    (hub.cache / "tokenizer.json").unlink()
    assert is_here(LanguageModelSource(name="x", hub="owner/name", tokenizer="minilm"))
