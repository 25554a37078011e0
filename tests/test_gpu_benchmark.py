"""``python -m benchmarks.gpu``: its parts at their smallest on a CPU, and what fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from rich.console import Console

from benchmarks.gpu.__main__ import parser, refuse_device
from benchmarks.gpu.equality import cases, compare, distinct, steps_of
from benchmarks.gpu.outcome import (
    Outcome,
    Row,
    as_json,
    failure_lines,
    last_line,
    reason_of,
    table_of,
    trying,
    whole,
)
from benchmarks.gpu.runner import PARTS, ROOT, measure, measure_into, read_rows, run_part, run_parts
from benchmarks.gpu.setting import TINY, Setting
from legos.errors import LegosError

CPU = torch.device("cpu")
OPTIONS = ["--device", "cpu", "--tiny"]
HELD = Row("a step", 2.0, "s", "a bare step", 1.0, 2.0, "at most 3", True, "note")
MISSED = Row("a pass", 4.0, "s", "a bare pass", 1.0, 4.0, "at most 3", False)
FOUND = {
    "equal": Outcome((HELD, MISSED), 1.0),
    "lora": Outcome((HELD, Row("7b", reason="out of memory on the GPU", holds=False)), 2.0),
    "steps": Outcome((HELD,), 3.0, "its process ended with signal 11"),
    "models": Outcome(reason="the budget of 6 s was spent", reached=False),
}


@pytest.fixture(autouse=True)
def _precision_of_its_own() -> Iterator[None]:
    """One process has one precision; parts change it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting("cpu", TINY, tmp_path)


def test_the_table_has_a_line_a_row_and_says_what_failed() -> None:
    console = Console(width=1000, file=io.StringIO(), record=True)
    console.print(table_of(FOUND, markdown=True))
    lines = [line.strip() for line in console.export_text().splitlines() if line.strip()]
    assert {line.count("|") for line in lines} == {9}
    assert len(lines) == 2 + 5 + 1  # header, rows, the part that was not reached
    held, missed, _, failed, *_, last = lines[2:]
    for cell in ("equal", "a step", "2 s", "a bare step 1 s", "at most 3", "holds", "note"):
        assert f"| {cell} " in held or f" {cell} |" in held
    assert "MISSED" in missed
    assert "FAILED" in failed
    assert "not reached" in last


def test_what_failed_is_named_with_its_reason() -> None:
    assert failure_lines(FOUND) == [
        "FAILED: equal: a pass: misses its target at most 3 (4 s)",
        "FAILED: lora: 7b: out of memory on the GPU",
        "FAILED: steps: its process ended with signal 11",
        "not reached: models: the budget of 6 s was spent",
    ]
    assert not whole(FOUND)
    assert whole({"equal": Outcome((HELD,))})
    assert all(not whole({part: outcome}) for part, outcome in FOUND.items())


def test_the_json_has_every_number_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    traced = {"lora": Outcome((Row("7b", reason="x", holds=False, trace="Traceback ..."),), 2.0)}
    found = json.loads(json.dumps(as_json({"device": "H200"}, FOUND | traced), allow_nan=False))
    assert found["device"] == "H200"
    assert found["holds"] is False
    assert found["parts"]["equal"]["rows"][0]["ratio"] == 2.0
    assert found["parts"]["lora"]["rows"][0]["trace"] == "Traceback ..."
    assert found["parts"]["models"]["reached"] is False
    last_line(FOUND)
    line = json.loads(capsys.readouterr().out)
    assert line["name"] == "gpu"
    assert line["holds"] is False
    assert line["ratio"]["equal"] == {"a step": 2.0, "a pass": 4.0}


def test_a_failure_stops_nothing_else() -> None:
    rows: list[Row] = []
    for what, error in (
        ("first", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")),
        ("second", RuntimeError("index_copy_(): self and source expected\nthe same dtype")),
        ("third", KeyError()),
    ):
        with trying(rows.append, what, CPU):
            raise error
    with trying(rows.append, "fourth", CPU):
        rows.append(HELD)
    with trying(rows.append, "fifth", CPU):
        rows.append(replace(HELD, value=float("nan")))
    assert [row.what for row in rows] == ["first", "second", "third", "a step", "fifth"]
    assert rows[0].reason == "out of memory on the GPU (20.0 GiB more were asked for)"
    assert rows[1].reason == "RuntimeError: index_copy_(): self and source expected the same dtype"
    assert rows[2].reason == "KeyError"
    assert rows[4].reason == "ValueError: value is nan: not finite"
    assert "raise error" in rows[1].trace
    assert reason_of(ValueError("x" * 999)).endswith("x ...")


def test_ctrl_c_is_no_failure_of_a_measurement() -> None:
    with pytest.raises(KeyboardInterrupt), trying(lambda row: None, "a step", CPU):
        raise KeyboardInterrupt


def test_what_ends_a_part_is_its_last_row(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(setting: Setting, tell: object) -> None:
        tell(HELD)  # type: ignore[operator]
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setitem(PARTS, "dire", broken)  # type: ignore[arg-type]
    measure_into("dire", setting, tmp_path / "rows")
    held, failed = read_rows(tmp_path / "rows")
    assert held == HELD
    assert failed.reason == "RuntimeError: CUDA error: device-side assert triggered"
    with (tmp_path / "rows").open("a") as file:
        file.write('{"what": "half a li')
    assert len(read_rows(tmp_path / "rows")) == 2


def program(tmp_path: Path, *lines: str) -> str:
    """A program in place of Python, whose last argument is the file for rows."""
    path = tmp_path / "program"
    path.write_text("\n".join(["#!/bin/bash", 'file="${@: -1}"', *lines]))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("kill -9 $$", "killed (signal 9): the machine may have run out of memory"),
        ("kill -11 $$", "its process ended with signal 11"),
        ("exit 3", "its process ended with exit code 3"),
        ("exec sleep 60", "stopped after 1 s: the budget was spent"),
        ("exit 0", ""),
    ],
)
def test_a_process_that_dies_leaves_what_it_measured(
    line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = """echo '{"what": "a step", "value": 2.0}' > $file"""
    monkeypatch.setattr(sys, "executable", program(tmp_path, row, line))
    found = run_part("dire", OPTIONS, 1.0)
    assert found.rows == (Row("a step", 2.0),)
    assert reason in found.reason
    assert bool(found.failures) == bool(reason)


def test_parts_behind_the_budget_are_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))
    said: list[str] = []
    found = run_parts(["roofline", "equal", "dire"], OPTIONS, 0.5, said.append)
    assert found["roofline"].reason.startswith("stopped after")
    assert [found[part].reached for part in found] == [True, False, False]
    assert "0.5 s was spent" in found["dire"].reason
    assert said[0] == "roofline ..."


def test_two_cases_are_not_one_training_twice() -> None:
    losses = {"ONCE": [1.0, 2.0], "DIRE, cached": [1.0, 2.0], "NAML": [1.5, 2.0]}
    (row,) = distinct(losses)
    assert row.what == "ONCE"
    assert "are those of DIRE, cached" in row.reason
    pages = {"DIRE, cached": [1.0, 2.0], "DIRE, cached, in pages": [1.0, 2.0]}
    assert not list(distinct(pages))
    assert list(distinct(pages | {"DIRE, cached": [1.1, 2.0]}))


@pytest.mark.slow
def test_once_is_dire_with_more_to_read_and_both_are_the_cpus_in_16_bits(setting: Setting) -> None:
    made = dict(cases(setting))
    names = ("DIRE, cached", "DIRE, cached, in pages", "ONCE")
    rows: list[Row] = []
    dire, pages, once = (compare(setting, name, made[name], rows.append) for name in names)
    assert dire is not None
    assert pages is not None
    assert once is not None
    assert [row.holds for row in rows] == [True] * 3
    assert dire.losses == pytest.approx(pages.losses, rel=1e-4)
    assert abs(once.losses[0] - dire.losses[0]) > 1e-3
    assert any("profile" in name or "user_encoder.fuse" in name for name in once.gradients)
    assert not any("fuse" in name for name in dire.gradients)


@pytest.mark.slow
def test_another_training_is_told_apart(setting: Setting) -> None:
    made = dict(cases(setting))
    rows: list[Row] = []

    def drifting(accelerator):  # type: ignore[no-untyped-def]
        recipe = made["NAML"](accelerator)
        if accelerator.mixed_precision == "bf16":
            for parameter in recipe.replicas.bare.parameters():
                parameter.data *= 1.5
        return recipe

    compare(setting, "NAML", drifting, rows.append)
    assert [row.holds for row in rows] == [False]
    assert steps_of(made["NAML"](setting.accelerator("fp32"))).losses[0] > 0


@pytest.mark.slow
@pytest.mark.parametrize("part", ["roofline", "cache", "dire"])
def test_parts_run_on_a_cpu(part: str, setting: Setting) -> None:
    rows: list[Row] = []
    measure(part, setting, rows.append)
    assert rows
    assert not [row for row in rows if row.reason]
    assert all(row.holds is None for row in rows)  # speed has no targets here


@pytest.mark.nightly
@pytest.mark.parametrize("part", ["equal", "steps", "lora", "generate", "models"])
def test_every_part_runs_on_a_cpu(part: str, setting: Setting) -> None:
    rows: list[Row] = []
    measure(part, setting, rows.append)
    assert rows
    assert not [row for row in rows if row.reason or row.holds is False]


@pytest.mark.slow
@pytest.mark.multiprocess
def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", *OPTIONS, "--only", "roofline"]
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| roofline | matrix product of 128², bf16" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["holds"] is True
    assert json.loads(file.read_text())["parts"]["roofline"]["rows"][0]["unit"] == "TFLOP/s"


def test_precision_and_device_change_within_a_process(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = setting.accelerator("fp32", "cpu")
    assert (first.device, first.mixed_precision) == (CPU, "no")
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")  # as if there were a GPU
    second = setting.accelerator("bf16")
    assert (second.device.type, second.mixed_precision) == ("meta", "bf16")


def test_devices_that_are_not_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("cpu", "cuda", "cuda:0"):
        refuse_device(device)
    with pytest.raises(LegosError, match=r"'cuda:1' is not here \(1 CUDA devices\); .*cpu --tiny"):
        refuse_device("cuda:1")
    with pytest.raises(LegosError, match="unknown device 'gpu'; choose cuda"):
        refuse_device("gpu")


@pytest.mark.parametrize("wrong", [["--only", "speed"], ["--budget", "0"], ["--budget", "x"]])
def test_wrong_command_lines_end_with_2(wrong: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(wrong)


def test_help_names_every_part() -> None:
    text = parser().format_help()
    assert all(f"\n  {part} " in text for part in PARTS)
