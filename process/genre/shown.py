"""What a run shows while it asks: answers, rate, cost, failures."""

from __future__ import annotations

from process.genre.types import Summary


def finished(state: Summary) -> int:
    """Requests that this run need not look at any more."""
    return state.already + state.refused + state.answered + state.quarantined + state.failed


def facts(state: Summary) -> str:
    """What stands beside the bar: ``12.3/s · cost 0.0021 · 1 invalid · 2 failed``."""
    done = finished(state) - state.already - state.refused
    parts = [f"{done / state.seconds:.1f}/s" if state.seconds > 0 else "-/s"]
    if state.cost:
        parts.append(f"cost {state.cost:.4f}")
    parts += [f"{state.quarantined} invalid", f"{state.failed} failed"]
    return " · ".join(parts)
