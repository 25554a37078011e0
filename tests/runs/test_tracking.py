"""Tracking: lines are never doubled, only one process writes, no bar without a terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from legos.runs.tracking import Tracker


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def record(tracker: Tracker, step: int) -> None:
    tracker.record({"kind": "train", "epoch": 1, "step": step, "loss": 1.0 / step})


def test_lines_after_the_checkpoint_are_cut_when_a_run_goes_on(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, quiet=True)
    record(tracker, 1)
    position = tracker.position
    record(tracker, 2)
    tracker.close()
    again = Tracker(tmp_path, quiet=True)
    again.rewind(position, 1)
    record(again, 2)
    record(again, 3)
    again.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_run_from_the_start_drops_what_an_earlier_one_wrote(tmp_path: Path) -> None:
    for step in (1, 2):
        tracker = Tracker(tmp_path, quiet=True)
        tracker.rewind(0, 0)
        record(tracker, step)
        tracker.close()
    assert [line["step"] for line in lines(tmp_path)] == [2]


def test_a_line_is_on_disk_at_once(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, quiet=True)
    record(tracker, 1)
    assert len(lines(tmp_path)) == 1
    tracker.close()


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, quiet=True)
    with pytest.raises(ValueError, match="not JSON compliant"):
        tracker.record({"kind": "train", "step": 1, "loss": float("nan")})
    tracker.close()


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "run", enabled=False)
    record(tracker, 1)
    tracker.say("hello")
    tracker.close()
    assert not (tmp_path / "run").exists()


def test_what_is_said_goes_to_the_log_with_its_time(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, quiet=True)
    tracker.say("epoch 1 [done]")
    tracker.close()
    assert (tmp_path / "log.txt").read_text().endswith("epoch 1 [done]\n")


def test_there_is_no_bar_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = Tracker(tmp_path)
    with tracker.progress("epoch 1", 10) as advance:
        advance(3)
    tracker.close()
    assert capsys.readouterr().out == ""


def test_tensorboard_events_can_be_read_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = Tracker(tmp_path, quiet=True)
    tracker.record({"kind": "valid", "epoch": 1, "step": 5, "metrics": {"GAUC": 0.75}})
    tracker.close()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Scalars("valid/GAUC")[0].step == 5
    assert events.Scalars("valid/GAUC")[0].value == pytest.approx(0.75)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_cpu_seconds_are_those_of_all_lines_that_count(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path, quiet=True)
    burn(0.05)
    record(tracker, 1)
    position = tracker.position
    burn(0.2)
    record(tracker, 2)  # a kill follows: this line is forgotten
    tracker.close()
    again = Tracker(tmp_path, quiet=True)
    again.rewind(position, 1)
    burn(0.05)
    record(again, 2)
    spent = sum(float(str(line["cpu_seconds"])) for line in lines(tmp_path))
    assert 0.1 <= spent <= again.cpu_seconds < 0.3
    again.close()
