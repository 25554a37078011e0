"""Start a command as two gloo processes on the CPU, as ``torchrun --nproc-per-node 2`` does."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.forked import forked_python

_LIMIT = 240  # seconds; a tenth of it is enough on two free cores


def environment(**more: str) -> dict[str, str]:
    """This process's, with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def in_two_processes(arguments: Sequence[str]) -> list[str]:
    """What each process of ``python <arguments>`` printed; both must succeed.

    Where one fails the other may wait for it forever, so it is ended and both are shown.
    """
    with _two(arguments) as (processes, files):
        codes = _wait(processes)
        printed = [[file.read_text(encoding="utf-8") for file in pair] for pair in files]
    assert codes == [0, 0], "\n".join(
        f"process {rank} ended with {code}:\n{''.join(texts)}"
        for rank, (code, texts) in enumerate(zip(codes, printed, strict=True))
    )
    return [output for output, _ in printed]


def end_of_one(arguments: Sequence[str]) -> int | None:
    """Exit code of one process, which may be killed; None: it was still running."""
    with TemporaryDirectory() as folder:
        files = [Path(folder, kind) for kind in ("out", "err")]
        process = forked_python(arguments, environment(), *files)
        process.join(_LIMIT)
        process.kill()
        return process.exitcode


def ends_of_two(arguments: Sequence[str]) -> list[tuple[int | None, str]]:
    """Exit codes and errors of both, where one is to take the other with it.

    The code of one that was still running is None.
    """
    with _two(arguments) as (processes, files):
        for process in processes:
            process.join(_LIMIT)
        return [
            (process.exitcode, errors.read_text(encoding="utf-8"))
            for process, (_, errors) in zip(processes, files, strict=True)
        ]


@contextmanager
def _two(
    arguments: Sequence[str],
) -> Iterator[tuple[list[ForkServerProcess], list[list[Path]]]]:
    """Both processes, and the files of what each prints and of its errors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with TemporaryDirectory() as folder:
        files = [[Path(folder, f"{kind}{rank}") for kind in ("out", "err")] for rank in range(2)]
        processes = [_start(arguments, rank, port, *files[rank]) for rank in range(2)]
        try:
            yield processes, files
        finally:
            for process in processes:
                process.kill()


def _start(
    arguments: Sequence[str], rank: int, port: str, output: Path, errors: Path
) -> ForkServerProcess:
    joined = environment(
        CUDA_VISIBLE_DEVICES="", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", RANK=str(rank),
        LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
    )  # fmt: skip
    return forked_python(arguments, joined, output, errors)


def _wait(processes: Sequence[ForkServerProcess]) -> list[int | None]:
    """Exit codes when both are over, one failed, or time is up; None: it was still running."""
    until = time.monotonic() + _LIMIT
    while time.monotonic() < until:
        codes = [process.exitcode for process in processes]
        if None not in codes or any(codes):
            break
        time.sleep(0.05)
    codes = [process.exitcode for process in processes]
    for process, code in zip(processes, codes, strict=True):
        if code is None:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGABRT)  # prints where it stands
            process.join()
    return codes
