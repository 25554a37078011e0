"""The Python of quickstart, recommend-and-serve and cllm4rec runs as printed, on small runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from legos.commands.main import main
from legos.config.load import load_run_config
from legos.recommend.run import TrainedRun

DOCS = Path(__file__).resolve().parents[2] / "docs"


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


BLOCKS = python_blocks((DOCS / "recommend-and-serve.md").read_text(encoding="utf-8"))
CLLM4REC = (DOCS / "cllm4rec.md").read_text(encoding="utf-8")
CLLM4REC = CLLM4REC.split("\n## CLLM4Rec: paper")[0].replace("\\\n", "")  # lines in one piece
README = (DOCS.parent / "README.md").read_text(encoding="utf-8")
SYSTEMS = ("bricks", "cllm4rec", "recsysllm")


def on(run: TrainedRun, code: str) -> str:
    """The code with the folder, users and items of a run; equal ids stay equal."""
    code = re.sub(r'"runs/[\w/-]+"', repr(str(run.folder)), code)
    items = run.items["item_id"].tolist()
    patterns = (
        (r"\b(?:B0\w{8}|N1\d{4})\b", items[1:]),
        (r"\b(?:A[12]\w{11,12}|U1\d{4})\b", run.users[3:]),
    )
    for pattern, names in patterns:
        for number, found in enumerate(dict.fromkeys(re.findall(pattern, code))):
            code = code.replace(found, str(names[number]))
    return code


def test_there_are_ten_lines_for_each_system() -> None:
    assert len(BLOCKS) == len(SYSTEMS)
    for block in BLOCKS:
        assert len([line for line in block.splitlines() if line.strip()]) <= 14


@pytest.mark.slow
@pytest.mark.parametrize(("system", "code"), list(zip(SYSTEMS, BLOCKS, strict=True)))
def test_a_block_runs(
    system: str,
    code: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fixture = {"bricks": "opened", "cllm4rec": "cllm4rec", "recsysllm": "recsysllm"}[system]
    run: TrainedRun = request.getfixturevalue(fixture)
    monkeypatch.chdir(tmp_path)
    exec(on(run, code), {})  # noqa: S102 - our own guide
    assert capsys.readouterr().out.count("score") >= 1
    assert (tmp_path / "recommendations.parquet").is_file() == (system == "bricks")


@pytest.mark.slow
def test_the_lines_of_the_readme_run(
    opened: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = python_blocks(README)
    exec(on(opened, code), {})  # noqa: S102 - our own README
    assert capsys.readouterr().out.count("item_id") == 4


@pytest.mark.slow
def test_the_quickstart_runs(opened: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = python_blocks((DOCS / "quickstart.md").read_text(encoding="utf-8"))
    exec(on(opened, code), {})  # noqa: S102 - our own guide
    assert capsys.readouterr().out.count("score") == 4


@pytest.mark.slow
def test_the_guide_to_cllm4rec_runs(
    cllm4rec: TrainedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = python_blocks(CLLM4REC)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(on(cllm4rec, code), names)  # noqa: S102 - our own guide
    assert capsys.readouterr().out.count("score") == 1
    lists = pd.read_parquet(tmp_path / "lists.parquet")
    assert sorted(lists["user_id"].unique()) == sorted(cllm4rec.users)
    (words,) = re.findall(r"^legos (recommend .*)$", CLLM4REC, re.MULTILINE)
    words = re.sub(r"runs/[\w/-]+", str(cllm4rec.folder), words)
    assert main(words.split()) == 0
    by_command = pd.read_csv(tmp_path / "lists.csv")
    assert by_command["item_id"].tolist() == lists["item_id"].tolist()


@pytest.mark.parametrize("line", re.findall(r"^python worker.py (.*)$", CLLM4REC, re.MULTILINE))
def test_every_command_of_the_guide_to_cllm4rec_is_understood(line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if word != "--check"]
    assert load_run_config(words, notice=lambda text: None).exp.evaluate.ranking == "all"
