"""Mode search: what is drawn follows from seed and trials alone; killed or not, the same trials."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import pytest

from legos.config.load import load_run_config
from legos.config.search_schema import Range, SearchConfig
from legos.errors import ConfigError, DataError, Diverged, OutOfMemory
from legos.reports.search import Found, Trial, short_names
from legos.runs.find import runs_below
from legos.runs.folder import RunFolder
from legos.runs.past import PastRun
from tests.forked import forked_python
from tests.modes.tiny_config import tiny_yamls

pytest.importorskip("optuna", reason="mode search needs optuna (requirements-search.txt)")

LR = Range(low=1e-4, high=1e-1, log=True)
RANGES = {"lr": LR, "size": Range(low=16, high=64, step=16), "user": Range(choices=("gru", None))}


def searched(path: Path, *, count: int, again: bool, best: float) -> list[Trial]:
    """Trials of a made-up metric; ``again``: the study is opened anew for each of them."""
    from legos.modes.study import Study

    asked = SearchConfig(ranges=RANGES, random_trials=4)
    study = Study(path, asked, seed=7, maximize=True)
    while len(study.trials()) < count:
        values = study.draw()
        height = 1 - abs(values["lr"] - best) - (values["user"] is None)
        epochs = [height * share for share in (0.5, 0.8, 1.0)]
        number, state = len(study.trials()) + 1, "trained"
        if number == 3:
            state, epochs = "failed", epochs[:1]
        elif study.prunes(values, epochs[:2]):
            state, epochs = "pruned", epochs[:2]
        found = Trial(number, state, values, epochs, run="runs/x")  # type: ignore[arg-type]
        study.add(found, max(epochs))
        if again:
            study = Study(path, asked, seed=7, maximize=True)
    return study.trials()


@pytest.mark.slow
def test_an_interrupted_search_draws_and_prunes_as_one_that_was_not(tmp_path: Path) -> None:
    whole = searched(tmp_path / "a?b%20#.db", count=12, again=False, best=0.01)
    assert [each.number for each in whole] == list(range(1, 13))
    assert {each.state for each in whole} == {"trained", "pruned", "failed"}
    assert searched(tmp_path / "again.db", count=12, again=True, best=0.01) == whole
    other = searched(tmp_path / "other.db", count=12, again=False, best=0.09)
    values, others = ([each.values for each in trials] for trials in (whole, other))
    assert values[:5] == others[:5]  # random, one of them failed
    assert values[5:] != others[5:]  # TPE goes by what was found
    for each in values:
        assert LR.low <= each["lr"] <= LR.high  # type: ignore[operator]
        assert each["size"] in (16, 32, 48, 64)
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    with pytest.raises(DataError, match=r"damaged\.db: no study .* delete it"):
        searched(tmp_path / "damaged.db", count=1, again=False, best=0.01)


def test_trials_are_ranked_by_direction_and_state() -> None:
    trials = [
        Trial(1, "failed", {"a.lr": 0.1, "b.lr": 1}, error="loss is not finite"),
        Trial(2, "pruned", {"a.lr": 0.2, "b.lr": 1}, [0.1]),
        Trial(3, "trained", {"a.lr": 0.3, "b.lr": 1}, [0.5, 0.4, 0.6]),
        Trial(4, "trained", {"a.lr": 0.4, "b.lr": 1}, [0.7, 0.8], run="runs/x/y/0123"),
    ]
    rising = Found("GAUC", True, trials, {"test": {"GAUC": 0.75, "MRR": 0.1}})
    assert [each.number for each in rising.ranked] == [4, 3, 2, 1]
    assert rising.cells()[:2] == [
        ["trial", "a.lr", "b.lr", "valid GAUC", "test GAUC", "epochs", "state", "run"],
        ["4", "0.4", "1", "0.8000", "0.7500", "2", "trained", "0123"],
    ]
    assert [each.number for each in Found("LogLoss", False, trials).ranked] == [3, 4, 2, 1]
    assert str(rising) == "4 trials: 1 failed, 1 pruned, 2 trained"
    assert short_names(["a.lr", "b.lr", "x.y.z"]) == {"a.lr": "a.lr", "b.lr": "b.lr", "x.y.z": "z"}


EXP = """name: search
mode: search
device: cpu
baselines: [popularity]
evaluate: {metrics: [GAUC]}
train: {batch_size: 16, epochs: 3, seed: 1, checkpoint_steps: 5}
search:
  trials: 4
  random_trials: 2
  ranges:
    exp.train.lr: {low: 1e-5, high: 3e-2, log: true}
    model.user: {choices: [additive_attention, pooling]}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables and YAMLs of a small search."""
    folder = tmp_path_factory.mktemp("search")
    return tiny_yamls(folder, EXP)


def words(world: Path, runs: Path, **more: Any) -> list[str]:
    files = [f"--{kind}={world / kind}.yaml" for kind in ("data", "model", "exp")]
    return [*files, f"--exp.runs_folder={runs}", *(f"--exp.{k}={v}" for k, v in more.items())]


def run_search(world: Path, runs: Path, **more: Any) -> dict[str, Any]:
    from legos.modes.main import run

    given = words(world, runs, **more)
    return run(load_run_config(given), words=given)


@pytest.fixture(scope="module")
def whole(world: Path) -> tuple[Path, dict[str, Any]]:
    """Runs folder and summary of a search that nothing interrupted."""
    runs = world / "runs"
    return runs, run_search(world, runs)


@pytest.mark.slow
def test_the_best_on_valid_is_tested_and_no_other(whole: tuple[Path, dict[str, Any]]) -> None:
    runs, summary = whole
    trials = summary["trials"]
    assert sorted(each["number"] for each in trials) == [1, 2, 3, 4]
    trained = [each for each in trials if each["state"] == "trained"]
    assert trained[0]["validation"] == max(each["validation"] for each in trained)
    assert summary["run"] == trained[0]["run"]
    for each in trials:
        run = PastRun(Path(each["run"]))
        tested = each["run"] == summary["run"]
        assert run.state == ("finished" if tested else each["state"])
        assert bool(run.metrics) == tested
    assert 0 <= summary["verdict"]["test"]["p"] <= 1
    (folder,) = (runs / "tiny").glob("search-*")
    assert json.loads((folder / "results.json").read_text()) == summary
    page = (folder / "report.html").read_text()
    assert "exp.train.lr" in page
    assert escape(summary["verdict"]["test"]["sentence"]) in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")


@pytest.mark.slow
@pytest.mark.multiprocess
def test_a_search_killed_twice_ends_as_one_that_was_not(
    world: Path, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    command = ["-m", "legos", "run", *words(world, runs)]

    def epochs() -> int:
        files = runs.glob("*/*/*/metrics.jsonl")
        return sum(path.read_text().count('"kind": "valid"') for path in files)

    for enough in (2, 5):
        process = forked_python(command, {}, tmp_path / "output", tmp_path / "output")
        while epochs() < enough:
            assert process.is_alive(), (tmp_path / "output").read_text()
            time.sleep(0.002)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    process = forked_python(command, {}, tmp_path / "output", tmp_path / "output")
    process.join()
    assert process.exitcode == 0, (tmp_path / "output").read_text()
    (folder,) = (runs / "tiny").glob("search-*")
    found = json.loads((folder / "results.json").read_text())

    def told(summary: dict[str, Any]) -> list[Any]:
        return [{**each, "run": Path(each["run"]).name} for each in summary["trials"]]

    assert told(found) == told(whole[1])
    assert len(list(runs_below(runs))) == len({each["run"] for each in found["trials"]})


def stub(outcome: Callable[[float], list[float]]) -> Callable[..., dict[str, Any]]:
    """A ``run_model`` without a model; ``outcome`` gives the metric of each epoch by ``lr``."""

    def run_model(config: Any, accelerator: Any, **options: Any) -> dict[str, Any]:
        from legos.data.tables import Tables
        from legos.runs.folder import run_folder

        folder: RunFolder = run_folder(config, Tables.load(config.data.folder))
        folder.path.mkdir(parents=True, exist_ok=True)
        if config.exp.mode == "train":
            lines = [
                {"kind": "valid", "epoch": n, "step": n, "metrics": {"GAUC": value}, "best": True}
                for n, value in enumerate(outcome(config.exp.train.lr), start=1)
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (folder.path / "metrics.jsonl").write_text(text)
        return {"model": "small", "splits": {}}

    return run_model


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Diverged("loss is not finite"), OutOfMemory("out of memory")])
def test_a_trial_that_fails_is_told_and_the_search_goes_on(
    fault: Exception, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome(lr: float) -> list[float]:
        if lr > 1e-3:
            raise fault
        return [lr]

    monkeypatch.setattr("legos.modes.search.run_model", stub(outcome))
    found = run_search(world, tmp_path, report="false", **{"search.trials": 8})
    failed = [each for each in found["trials"] if each["state"] == "failed"]
    assert 0 < len(failed) < 8 == len(found["trials"])
    assert {each["error"] for each in failed} == {str(fault)}


@pytest.mark.slow
def test_a_mistake_ends_the_search_and_its_trial_is_run_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def outcome(lr: float) -> list[float]:
        drawn.append(lr)
        if len(drawn) == 3:
            raise DataError("the disk is gone")
        return [lr]

    monkeypatch.setattr("legos.modes.search.run_model", stub(outcome))
    with pytest.raises(DataError, match="the disk is gone"):
        run_search(world, tmp_path, report="false")
    found = run_search(world, tmp_path, report="false")
    assert len(found["trials"]) == 4
    assert drawn[2] == drawn[3]


@pytest.mark.slow
def test_more_trials_go_on_and_another_seed_is_another_search(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("legos.modes.search.run_model", stub(lambda lr: [lr]))
    first, more, other = (
        run_search(world, tmp_path, report="false", **{"search.trials": count, "train.seed": seed})
        for count, seed in ((3, 1), (5, 1), (3, 2))
    )
    of = {each["number"]: each for each in more["trials"]}
    assert len(of) == 5
    assert [of[each["number"]] for each in first["trials"]] == first["trials"]
    assert {each["run"] for each in other["trials"]}.isdisjoint(each["run"] for each in of.values())
    assert len(list((tmp_path / "tiny").glob("search-*"))) == 2


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ("{exp.train.lrr: {low: 1.0, high: 2.0}}", "unknown key .* did you mean 'lr'"),
        ("{exp.train.lr: {low: 1.0, high: 200.0}}", "expected less than or equal to 100"),
        ("{exp.train.lr: {low: 1, high: 2}}", "write 1.0 and 2.0, or add step: 1"),
        ("{exp.train.lr: {low: 0, high: 2.0, log: true}}", "needs low above 0"),
        ("{exp.train.epochs: {low: 1, high: 4, step: 2}}", "never reach 4; high: 3"),
        ("{exp.train.epochs: {low: 1, choices: [1, 2]}}", "choices together with low"),
        ("{exp.train.seed: {low: 1, high: 4}}", "would not be comparable"),
        ("{exp.device: {choices: [cpu, auto]}}", "does not affect training"),
        ("{exp.train.batch_size: {choices: [8, 16]}}", "--exp.train.batch_size is also given"),
        ("{model.user: {choices: [gru, grru]}}", "did you mean 'gru'"),
    ],
)
def test_wrong_ranges_are_refused_before_the_first_trial(
    world: Path, tmp_path: Path, ranges: str, told: str
) -> None:
    exp = tmp_path / "exp.yaml"
    head = EXP[: EXP.index("    exp.train.lr")].replace("  ranges:\n", f"  ranges: {ranges}\n")
    exp.write_text(head)
    given = [*words(world, tmp_path / "runs"), "--exp.train.batch_size=16"]
    given = [f"--exp={exp}" if word.startswith("--exp=") else word for word in given]
    with pytest.raises(ConfigError, match=rf"exp\.yaml:10: exp\.search\.ranges.*{told}"):
        load_run_config(given)
    assert not (tmp_path / "runs").exists()
