"""What docs/add-a-system.md promises: every block of it runs, and the new system is one of all."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file

import legos
import legos.systems
import worker
from legos.config.model_schema import _SYSTEMS
from legos.errors import ConfigError
from tests.tiny import tiny_tables

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "add-a-system.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(\S+)`:\n```(?:python|yaml)\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = re.findall(r"^python worker\.py (.*)$", TEXT, re.MULTILINE)
DATA = "{name: newsroom, folder: FOLDER, fields: [title@words, category], history_length: 6}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the how-to's files and tiny tables; its system is there while it is used."""
    folder = tmp_path_factory.mktemp("how_to")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    tables = tiny_tables(folder / "tables")
    (folder / "newsroom.yaml").write_text(DATA.replace("FOLDER", str(tables)), encoding="utf-8")
    ((name, module),) = re.findall(r"in `SYSTEMS`: `\"(\w+)\": \"([\w.]+)\"`", TEXT)
    paths = legos.systems.__path__
    paths.append(str(folder / "legos" / "systems"))
    legos.systems.SYSTEMS[name] = module
    try:
        yield folder
    finally:
        paths.remove(str(folder / "legos" / "systems"))
        del legos.systems.SYSTEMS[name]
        _SYSTEMS.pop(name, None)
        for name in [name for name in sys.modules if name.startswith("legos.systems.biased_mf")]:
            del sys.modules[name]


def run(world: Path, command: str, runs: str = "runs") -> int:
    """A command of the how-to in this process, on tiny tables; its exit code."""
    words = command.replace("--data newsroom", f"--data {world / 'newsroom.yaml'}")
    model = world / "config" / "model" / "biased_mf.yaml"
    words = words.replace("--model biased_mf", f"--model {model}")
    if "--data" in words:
        words += (
            f" --exp.runs_folder {world / runs} --exp.report false --exp.baselines [popularity]"
        )
    return worker.main(shlex.split(words))


def weights(world: Path, runs: str) -> dict[str, Any]:
    (file,) = (world / runs / "newsroom" / "biased_mf").glob("*/checkpoints/last/model.safetensors")
    return load_file(file)


def test_every_block_is_a_file_or_a_command() -> None:
    assert [Path(path).name for path in FILES] == ["settings.py", "system.py", "biased_mf.yaml"]
    assert len(COMMANDS) == 3
    assert TEXT.count("```") == 2 * (len(FILES) + 1)


@pytest.mark.slow
def test_its_commands_run_and_a_run_resumes_to_the_same_bits(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *others, train = COMMANDS
    assert [run(world, command) for command in others] == [0, 0]
    shown = capsys.readouterr().out
    assert "a popularity bias per item" in shown
    assert f"{(40 + 60) * 16 + 60:,} parameters" in shown
    assert run(world, train) == 0
    shown = capsys.readouterr().out
    assert "popularity" in shown
    recipe = import_module("legos.systems.biased_mf.system").BiasedMFRecipe
    count = recipe.count

    def interrupted(self: Any, *arguments: Any) -> Any:
        if self.progress.step == 9:
            signal.raise_signal(signal.SIGINT)
        return count(self, *arguments)

    with monkeypatch.context() as context:
        context.setattr(recipe, "count", interrupted)
        assert run(world, train, "interrupted") == 130
    assert run(world, train, "interrupted") == 0
    one, other = weights(world, "runs"), weights(world, "interrupted")
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    opened = legos.open(world / "runs" / "newsroom" / "biased_mf", device="cpu")
    assert len(opened.recommend("U7", k=5)) == 5
    assert len(opened.similar("N3", k=5)) == 5
    with pytest.raises(ConfigError, match="takes no new items"):
        opened.add_items(pd.DataFrame({"item_id": ["x"], "title": ["sports1"]}))


def test_keys_that_it_does_not_read_are_refused(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (option, said), *_ = re.findall(r"`(--\S+ \S+)` is refused: it `(.*?)`", TEXT)
    for given in (option, "--item_lr 0.1"):
        assert run(world, f"{COMMANDS[-1]} {given}", "refused") == 2
        assert said.removeprefix("is not ") in capsys.readouterr().err.replace(
            "by nothing in", "by"
        )
    assert run(world, f"{COMMANDS[-1]} --model.widht 3", "refused") == 2
    assert "did you mean 'width'" in capsys.readouterr().err
    assert not (world / "refused").exists()
