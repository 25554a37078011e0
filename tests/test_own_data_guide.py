"""Every command of docs/your-data.md runs or is printed by one before it, on a small shop."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from legos.commands.main import main
from process.columns import ColumnReader
from tests.process.table.own import small_shop

GUIDE = (Path(__file__).parents[1] / "docs/your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if not language
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("legos ")
]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.mark.slow
def test_every_command_of_the_guide_runs_or_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = small_shop()
    for name in ("items", "events", "users"):
        getattr(shop, name).to_csv(f"{name}.csv", index=False)
    shop.events.tail(90).to_csv("events-w02.csv", index=False)
    small_shop("zh").items.to_csv("items_zh.csv", index=False)
    assert len(COMMANDS) == 14
    assert len(PYTHON) == 1
    trained = []
    for command in COMMANDS:
        if command.startswith("legos run "):
            trained.append(command)  # test_own_tables.py runs what is printed
        elif not command.startswith(("legos runs ", "legos recommend ")):  # of trained runs
            assert main(shlex.split(command)[1:]) == 0, command
    exec(PYTHON[0], {})  # noqa: S102  # the guide's own
    for name in ("shop", "bought", "weighed", "by-time", "all", "zh", "from-python"):
        assert ColumnReader(Path("data") / name).manifest["name"] == name
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert len(trained) == 4
    for command in trained:
        assert any(line.endswith(command) for line in printed), command


def test_readme_leads_to_the_guide() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert "docs/your-data.md" in readme
