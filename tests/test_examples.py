"""Every script of examples/ runs as it is, on data that it makes itself, and shows its point."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.forked import run_python

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def run(name: str, home: Path) -> str:
    """What an example prints, errors included, away from the runs of the working directory."""
    start = home / "start.py"
    start.write_text(
        f"import os, runpy\nos.chdir({str(home)!r})\n"
        f"runpy.run_path({str(FOLDER / f'{name}.py')!r}, run_name='__main__')\n",
        encoding="utf-8",
    )
    code, output = run_python([str(start)], LEGOS_HOME=str(home))
    assert code == 0, output
    return output


@pytest.mark.slow
@pytest.mark.multiprocess
def test_own_data_to_recommendations(tmp_path: Path) -> None:
    output = run("own_data_to_recommendations", tmp_path)
    assert "error" not in output
    assert "item recipe_id · title text" in output
    assert re.search(r"recommended is above .*, the best of 5 baselines", output)
    answers = output[output.rindex("next: ") :]
    assert len(re.findall(r"^\d+ +r\d+ +-?\d\.\d+ ", answers, re.MULTILINE)) == 9
    scores = [float(each) for each in re.findall(r"reader 0 +(.*)", answers)[0].split()]
    assert max(scores) == scores[0]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_new_lego_from_another_package(tmp_path: Path) -> None:
    output = run("a_new_lego_from_another_package", tmp_path)
    assert "fading              Weighted average of the history" in output
    assert "model.user.half_live: unknown key (value 3); did you mean 'half_life'?" in output
    assert output.count("error") == 1
    assert re.search(r"^fading  pooling ", output, re.MULTILINE)
    assert len(re.findall(r"^\d  N\d+ ", output, re.MULTILINE)) == 3
    assert (tmp_path / "my_bricks/fading.py").is_file()


@pytest.mark.slow
@pytest.mark.multiprocess
def test_dire_in_ten_cells(tmp_path: Path) -> None:
    output = run("dire_in_ten_cells", tmp_path)
    assert "error" not in output
    assert "cached and verified: layer_5" in output
    assert output.count("caching layer_5") == 0  # training reads what mode cache wrote
    assert "bert-naml is above popularity" in output
    found = dict(re.findall(r"^(bert-naml|pooling) +0\.\d+ +(0\.\d{4})", output, re.MULTILINE))
    assert float(found["bert-naml"]) > 0.9
    assert float(found["pooling"]) < 0.6
    scores = [float(each) for each in re.findall(r"reader 0 +(.*)", output)[0].split()]
    assert max(scores) == scores[0]
    text = (FOLDER / "dire_in_ten_cells.py").read_text(encoding="utf-8")
    assert [int(each) for each in re.findall(r"# %%\n# (\d+)\.", text)] == list(range(1, 11))


@pytest.mark.slow
@pytest.mark.multiprocess
def test_reading_a_report_and_comparing_runs(tmp_path: Path) -> None:
    output = run("reading_a_report_and_comparing_runs", tmp_path)
    assert "error" not in output
    assert "2 runs, " in output
    assert "naml: cnn · additive_attention · dot" in output
    assert "  Recommendations\n" in output
    assert re.search(r"^cold items  GAUC 0\.\d{3}$", output, re.MULTILINE)
    (difference,) = re.findall(r"^NAML - pooling: \+(0\.\d+) ± 0\.\d+ over 456", output, re.M)
    gaucs = dict(re.findall(r"^(naml|pooling) +0\.\d+ +(0\.\d{4})", output, re.MULTILINE))
    expected = float(gaucs["naml"]) - float(gaucs["pooling"])
    assert float(difference) == pytest.approx(expected, abs=2e-4)  # both are rounded


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_cell_begins_with_a_sentence(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    cells = re.split(r"^# %%.*\n", text, flags=re.MULTILINE)
    assert text.startswith("# %% [markdown]\n# # ")
    assert [cell for cell in cells[1:] if not cell.startswith("# ")] == []


def test_the_page_of_the_examples_names_each() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((\w+\.py)\)", page)
    assert sorted(named) == [path.name for path in SCRIPTS]
