"""The last line of every benchmark: one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """What one part of a benchmark measured.

    Attributes:
        ours, other: seconds, or so many a second.
        ratio: of the two.
        holds: whether results are the same and the target is reached.
    """

    ours: Any
    other: Any
    ratio: Any
    holds: bool


def finish_parts(name: str, parts: Mapping[str, Part], targets: Mapping[str, Any]) -> None:
    """:func:`finish` of a benchmark in parts: every entry by part; holds if all do."""
    finish(
        name=name,
        ours={part: found.ours for part, found in parts.items()},
        other={part: found.other for part, found in parts.items()},
        ratio={part: found.ratio for part, found in parts.items()},
        target={part: targets[part] for part in parts},
        holds=all(found.holds for found in parts.values()),
    )


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
