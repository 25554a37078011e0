"""What is worth a line about the data before a run: clicks that they give away."""

from __future__ import annotations

from legos.data.honesty import read_honesty
from legos.data.tables import Tables


def honesty_notices(tables: Tables) -> list[str]:
    """What the data-honesty report of the tables warns of, a line each."""
    report = read_honesty(tables.manifest)
    if report is None:
        return []
    return [f"warning, data {tables.name}: {warning.text}" for warning in report.warnings]
