"""What docs/recommend.md shows runs as it stands there, on the tests' own small runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from legos.recommend.run import TrainedRun

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "recommend.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
SYSTEMS = ("bricks", "cllm4rec", "recsysllm")


def on(run: TrainedRun, code: str) -> str:
    """The code with the folder, users and items of a run; equal ids stay equal."""
    code = re.sub(r'"runs/[\w/-]+"', repr(str(run.folder)), code)
    items = run.items["item_id"].tolist()
    for pattern, names in ((r"\bB0\w{8}\b", items[1:]), (r"\bA2\w{11}\b", run.users[3:])):
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
