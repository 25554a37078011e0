"""``results.json`` of a run: how it was trained, and what each way of measuring it gave.

    training, parameters, ...          of the run
    measurement, splits, baselines     what was asked for last: report and tables show it
    measurements                       by id all that was measured, with its settings

Other metrics, other test splits and other baselines measure again and train nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from legos.runs.identity import Identity


class Measurement:
    """What was measured of one run with one set of settings; the caller fills it.

    Args:
        results: what ``results.json`` holds so far.
        identity: of the measurement.

    Attributes:
        splits: by name what the model reaches.
        baselines: by split and name what baselines reach.
    """

    def __init__(self, results: Mapping[str, Any], identity: Identity) -> None:
        self.id, self._identity = identity.id, identity
        known = results.get("measurements", {}).get(self.id, {})
        self.splits: dict[str, Any] = dict(known.get("splits", {}))
        self.baselines: dict[str, dict[str, Any]] = dict(known.get("baselines", {}))

    def shown_in(
        self, results: Mapping[str, Any], splits: Sequence[str], baselines: Sequence[str]
    ) -> dict[str, Any]:
        """The results with this measurement kept, and shown as far as it is asked for.

        Args:
            results: of the run.
            splits: names of test splits, in the order of tables.
            baselines: their names, in the order of tables.
        """
        beside = {
            split: {name: found[name] for name in baselines if name in found}
            for split in splits
            for found in [self.baselines.get(split, {})]
        }
        kept = {
            "settings": dict(self._identity.settings),
            "sources": dict(self._identity.sources),
            "splits": self.splits,
            "baselines": self.baselines,
        }
        return {
            **results,
            "measurement": self.id,
            "splits": {split: self.splits[split] for split in splits if split in self.splits},
            "baselines": {split: found for split, found in beside.items() if found},
            "measurements": {**results.get("measurements", {}), self.id: kept},
        }
