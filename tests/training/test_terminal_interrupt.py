"""Ctrl-C on a terminal, which signals every process of a command at once, its launcher included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import worker
from tests.tiny import tiny_tables
from tests.training.two_processes import environment

ROOT = Path(worker.__file__).parent
_LIMIT = 240.0  # seconds; a tenth of it is enough on two free cores
LAUNCHERS = {
    "python": ([sys.executable], 130),
    # torchrun ends with a stack trace of its own and exit code 1, whatever its processes end with
    "torchrun": ([sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"], 1),
}


@pytest.mark.slow
@pytest.mark.multiprocess
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ctrl_c_is_one_line_and_the_same_command_resumes(launcher: str, tmp_path: Path) -> None:
    words, code = LAUNCHERS[launcher]
    runs = tmp_path / "runs"
    command = [
        *(*words, "worker.py", "--data", "newsroom", "--model", "naml", "--exp", "tt"),
        *("--data.folder", str(tiny_tables(tmp_path / "tables")), "--hidden_size", "8"),
        *("--data.fields", "[title@words, category]", "--batch_size", "8"),
        *("--exp.runs_folder", str(runs), "--exp.baselines", "[]", "--exp.device", "cpu"),
        *("--exp.train.epochs", "5000", "--patience", "5000"),  # so it never ends by itself
    ]
    for saved in (1, 2):
        ended, told = interrupted(command, runs, epochs=saved)
        assert ended == code, told
        assert told.count("interrupted; progress is saved") == 1
        assert told.count("saved, will resume") == 1
        assert str(ROOT / "worker.py") not in told  # no stack trace of a process
        assert "error:" not in told
    assert "resumes after step" in told


def interrupted(command: list[str], runs: Path, *, epochs: int) -> tuple[int, str]:
    """Exit code and output of a command that gets a Ctrl-C after some epochs.

    Args:
        command: words of it.
        runs: the folder of runs that it writes to.
        epochs: lines of epochs in its log, of earlier commands too, before the Ctrl-C.
    """
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        until = time.monotonic() + _LIMIT
        while process.poll() is None and time.monotonic() < until:
            log = "".join(path.read_text() for path in runs.glob("*/*/*/log.txt"))
            if log.count("  GAUC ") >= epochs:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        told, _ = process.communicate(timeout=_LIMIT)
    return process.returncode, told
