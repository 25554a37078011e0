"""The commands that ask a trained run: what they print and write, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import worker
from legos.commands.main import main
from legos.recommend.run import TrainedRun
from tests.training.two_processes import in_two_processes


def printed(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def parsed(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(printed([*words, "--json"], capsys))


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return found.err


def test_recommend_prints_lists(
    trained: Path, opened: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(trained)
    found = parsed(["recommend", run, "--user", "U3", "U4", "--k", "3"], capsys)
    assert [each["user"] for each in found] == ["U3", "U4"]
    listed = [item["item_id"] for item in found[0]["items"]]
    assert listed == opened.recommend("U3", k=3)["item_id"].tolist()
    (new,) = parsed(["recommend", run, "--history", "N1", "N5", "--k", "2"], capsys)
    assert new["user"] is None
    assert len(new["items"]) == 2
    table = printed(["recommend", run, "--user", "U3", "--k", "3"], capsys)
    assert "for U3" in table
    assert all(item in table for item in listed)


@pytest.mark.slow
def test_recommend_writes_lists_of_a_file_of_users(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users.txt").write_text("U3\nU9\n\n")
    pd.DataFrame({"user_id": ["U3", "U9"]}).to_csv(tmp_path / "users.csv", index=False)
    for users in ("users.txt", "users.csv"):
        output = tmp_path / "recs.parquet"
        words = ["--users", str(tmp_path / users), "--output", str(output), "--k", "4"]
        assert "2 users" in printed(["recommend", str(trained), *words], capsys)
        assert pd.read_parquet(output)["user_id"].unique().tolist() == ["U3", "U9"]
        output.unlink()
    words = ["recommend", str(trained), "--all", "--output", str(tmp_path / "all.csv")]
    told = printed(words, capsys)
    assert f"lists of 40 users by {trained} (model naml, trained 20" in told


def test_new_items_of_a_file_are_recommended(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.csv"
    new.write_text("item_id,title,category\nx1,finance1 finance2 finance3,finance\n")
    words = ["--history", "N1", "N5", "N9", "--add", str(new), "--k", "61"]
    (found,) = parsed(["recommend", str(trained), *words], capsys)
    assert "x1" in [item["item_id"] for item in found["items"]]


def test_similar_and_explain_print_lists(
    trained: Path, opened: TrainedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    found = parsed(["similar", str(trained.parent), "N4", "--k", "3"], capsys)
    wanted = opened.similar("N4", k=3)["item_id"].tolist()
    assert [item["item_id"] for item in found["items"]] == wanted
    title = opened.items.set_index("item_id").loc["N4", "title"]
    assert f"similar to N4, {title[:10]}" in printed(["similar", str(trained), "N4"], capsys)
    found = parsed(["explain", str(trained), "--history", "N1", "N2", "--item", "N5"], capsys)
    assert {click["item_id"] for click in found["clicks"]} == {"N1", "N2"}
    title = opened.items.set_index("item_id").loc["N5", "title"]
    assert f"clicks that support N5, {title[:10]}" in printed(
        ["explain", str(trained), "--user", "U3", "--item", "N5"], capsys
    )


def test_a_refusal_names_the_run_that_a_folder_around_runs_meant(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--user", "U3", "--item", "N5"]
    name = "/".join(trained.parts[-3:])
    around = refused(["rate", str(trained.parent), *words], capsys)
    assert f"({name} is the newest trained run of {trained.parent})" in around
    assert "newest" not in refused(["rate", str(trained), *words], capsys)


def test_vectors_are_files_and_an_index(
    trained: Path, opened: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faiss = pytest.importorskip("faiss", reason="needs requirements-faiss.txt")
    folder = tmp_path / "vectors"
    for _ in range(2):  # its own output is replaced
        printed(["vectors", str(trained), "--output", str(folder), "--faiss"], capsys)
    items = pd.read_parquet(folder / "items.parquet")
    vectors = np.stack(items["vector"].to_list())
    assert np.array_equal(vectors, opened.item_vectors().to_numpy())
    users = pd.read_parquet(folder / "users.parquet").set_index("user_id")["vector"]
    index, ids = faiss.read_index(str(folder / "items.faiss")), items["item_id"].tolist()
    assert json.loads((folder / "items.json").read_text()) == ids
    scores, rows = index.search(users["U3"][None], 60)
    found = pd.DataFrame({"item_id": [ids[row] for row in rows[0]], "score": scores[0].round(4)})
    listed = opened.recommend("U3", k=60, exclude_seen=False)[["item_id", "score"]]
    order = ["score", "item_id"]  # FAISS puts items of equal scores in an order of its own
    same = listed.round(4).sort_values(order)["item_id"].tolist()
    assert found.sort_values(order)["item_id"].tolist() == same
    assert np.allclose(scores[0], opened.score("U3", [ids[row] for row in rows[0]]), atol=1e-4)
    assert json.loads((folder / "vectors.json").read_text())["scores"] == "dot"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    words = ["vectors", str(trained), "--output", str(tmp_path / "mine")]
    assert "holds no vectors" in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["recommend", "RUN", "--user", "U99"], "no user 'U99'; did you mean 'U9'?"),
        (["recommend", "RUN", "--history", "N1", "M5"], "no item 'M5'"),
        (["recommend", "RUN"], "give one of --user, --history, --users, --all, as in: "),
        (
            ["recommend", "RUN", "--usr", "U1"],
            "error: --usr: no such option; did you mean --user",
        ),
        (["recommend", "RUN", "--all"], "--all needs --output"),
        (["recommend", "RUN", "--user", "U1", "--k", "0"], "'0'; expected a number of items"),
        (["recommend", "RUN", "--user", "U1", "--output", "a.xlsx"], r"ends with .parquet, .csv"),
        (["recommend", "RUN", "--users", "nobody.txt"], "nobody.txt: no such file"),
        (["recommend", "runs/nothing", "--user", "U1"], "no such run folder"),
        (["similar", "RUN", "N99"], "no item 'N99'; did you mean 'N9'?"),
        (
            ["rate", "RUN", "--user", "U1", "--item", "N1"],
            "does not generate text; use",
        ),
        (["explain", "RUN", "--item", "N1"], "give one of --user, --history"),
        (["vectors", "RUN"], "--output: missing, as in: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    trained: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused([str(trained) if word == "RUN" else word for word in words], capsys)
    assert message in told


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            "exp.load",
            "x",
            "--set: exp.load: an open run does not read it; may be set: exp.precision",
        ),
        ("exp.device", "cpu", "--set: exp.device: an open run does not read it; give --device DEV"),
        (
            "data.folder",
            "x",
            "--set: data.folder: an open run does not read it; give --data FOLDER",
        ),
        ("exp.mode", "train", "--set: exp.mode: an open run does not read it; may be set: "),
        ("exp.evaluate.metrics", "[MRR]", "metrics: an open run does not read it; may be set: "),
        ("exp.train.lr", "0.5", "--set: exp.train.lr: another value needs another training, this"),
        ("model.item.dropout", "0.5", "--set: model.item.dropout: another value needs another"),
        ("model.item.dropot", "0.5", "--set: model.item.dropot: unknown key"),
        ("exp.precision", "fp8", "--set: exp.precision: unknown value 'fp8'"),
        ("precision", "fp32", "--set: precision: no such setting; may be set: exp.precision"),
        ("modle.item", "cnn", "--set: modle.item: no such setting; may be set: exp.precision"),
        ("exp.precision", "[", "--set: exp.precision: "),
    ],
)
def test_a_setting_that_an_open_run_does_not_read_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], key: str, value: str, told: str
) -> None:
    words = ["recommend", str(trained), "--user", "U3", "--set", key, value]
    error = refused(words, capsys)
    assert told in error
    assert "--load" not in error


def test_a_setting_is_given_once(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--set", "exp.evaluate.page_size", "1"]
    asked = ["recommend", str(trained), "--user", "U3"]
    assert "given twice, 1 and '1'" in refused([*asked, *words, *words], capsys)
    (given,), (plain,) = parsed([*asked, *words], capsys), parsed(asked, capsys)
    assert [item["item_id"] for item in given["items"]] == [
        item["item_id"] for item in plain["items"]
    ]


@pytest.mark.parametrize("name", ["recommend", "similar", "vectors", "rate", "explain"])
def test_help_shows_an_example_and_needs_no_torch(name: str) -> None:
    code = (
        f"import sys; from legos.commands.main import main; code = main([{name!r}, '--help']); "
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules; sys.exit(code)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert f"legos {name} runs/" in found.stdout


@pytest.mark.slow
def test_the_worker_writes_lists_into_the_run_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "lists.jsonl"
    words = ["--load", str(trained), "--exp", "recommend"]
    more = ["--exp.recommend.output", str(output), "--exp.recommend.k", "3"]
    assert worker.main([*words, *more, "--device", "cpu"]) == 0, capsys.readouterr().err
    assert len(output.read_text().splitlines()) == 3 * 40
    assert worker.main([*words, "--device", "cpu"]) == 0, capsys.readouterr().err
    assert pd.read_parquet(trained / "recommendations.parquet")["rank"].max() == 50
    (trained / "recommendations.parquet").unlink()


@pytest.mark.multiprocess
def test_two_processes_write_what_one_writes(
    trained: Path, opened: TrainedRun, tmp_path: Path
) -> None:
    alone = opened.recommend_all(3, tmp_path / "alone.parquet", page=16)
    shared = tmp_path / "shared.parquet"
    code = (
        "import legos; from legos.workplace.device import joined_processes\n"
        f"run = legos.open({str(trained)!r}, device='cpu')\n"
        "with joined_processes(run.accelerator):\n"
        f"    run.recommend_all(3, {str(shared)!r}, page=16)\n"
    )
    path = tmp_path / "script.py"
    path.write_text(code)
    in_two_processes([str(path)])
    assert shared.read_bytes() == alone.read_bytes()
