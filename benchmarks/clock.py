"""What the training benchmarks share: the size of a step and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

LR = 1e-3
BATCH = 64


def cpu_seconds(step: Callable[[], object], count: int = 1) -> float:
    """CPU seconds a step, over ``count`` steps."""
    begin = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - begin) / count
