"""The last line of every benchmark: one JSON object."""

from __future__ import annotations

import json
from typing import Any


def finish(*, name: str, ours: Any, other: Any, ratio: Any, target: Any, holds: bool) -> None:
    """Print ``{name, ours, other, ratio, target, holds}`` on one line.

    Args:
        name: which benchmark.
        ours: what our side took or reached.
        other: the same of what we compare with.
        ratio: how they compare.
        target: what the ratio must reach.
        holds: whether it does, results being equal included.
    """
    result = {
        "name": name,
        "ours": _rounded(ours),
        "other": _rounded(other),
        "ratio": _rounded(ratio),
        "target": target,
        "holds": bool(holds),
    }
    print(json.dumps(result, allow_nan=False), flush=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
