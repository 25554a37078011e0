"""Start a command as two gloo processes on the CPU, as ``accelerate launch --cpu`` does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def environment(**more: str) -> dict[str, str]:
    """This process's, with one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def in_two_processes(arguments: Sequence[str], timeout: float = 120) -> list[str]:
    """What each process of ``python <arguments>`` printed; both must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=environment(
                ACCELERATE_USE_CPU="true", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", RANK=str(rank),
                LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
            ),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = []
    for process in processes:
        output, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs
