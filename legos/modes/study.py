"""The finished trials of a search in an Optuna study, and what it draws and prunes by them.

A trial is added to SQLite in one piece when it is over. What is drawn next is a function of the
trials so far and the seed, so that a search that was killed draws the same values again: they name
the same run, which goes on from its own last state.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import OptunaError
from optuna.pruners import MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import create_trial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from legos.config.search_schema import Range, SearchConfig
from legos.errors import DataError
from legos.reports.search import Trial, TrialState

_WARMUP = 1  # epochs (from 0) before which no trial is pruned
_STATES: dict[TrialState, optuna.trial.TrialState] = {
    "trained": optuna.trial.TrialState.COMPLETE,
    "pruned": optuna.trial.TrialState.PRUNED,
    "failed": optuna.trial.TrialState.FAIL,
}


class Study:
    """An Optuna study in SQLite.

    Args:
        path: of the database; made where there is none.
        search: ranges, and when TPE and pruning begin.
        seed: of what is drawn.
        maximize: whether more of the metric is better.

    Raises:
        DataError: there is a file that is no such study.
    """

    def __init__(self, path: Path, search: SearchConfig, *, seed: int, maximize: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._search, self._seed = search, seed
        self._direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        first = search.random_trials
        self._pruner = MedianPruner(first, _WARMUP) if search.prune else NopPruner()
        self._kinds = {key: _distribution(each) for key, each in search.ranges.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        storage = URL.create("sqlite", database=str(path)).render_as_string()
        try:
            self._study = optuna.create_study(
                storage=storage, study_name="search", direction=self._direction, load_if_exists=True
            )
            self.trials()
        except (SQLAlchemyError, OptunaError, RuntimeError, KeyError, ValueError) as error:
            raise DataError(
                f"{path}: no study of this search ({type(error).__name__}); delete it and rerun "
                "the command; finished trials are not trained again"
            ) from None

    def trials(self) -> list[Trial]:
        """Those that are over, in the order in which they ran."""
        return [self._read(each) for each in self._study.trials]

    def draw(self) -> dict[str, Any]:
        """The values of the next trial, by dotted key."""
        known = self._study.trials
        seed = int(np.random.SeedSequence([self._seed, len(known)]).generate_state(1)[0])
        sampler = TPESampler(
            n_startup_trials=self._search.random_trials, multivariate=True, seed=seed
        )
        asked = optuna.create_study(direction=self._direction, sampler=sampler)
        asked.add_trials(known)
        return self._plain(asked.ask(self._kinds).params)

    def prunes(self, values: Mapping[str, Any], epochs: Sequence[float]) -> bool:
        """Whether a trial ends after these epochs."""
        trial = create_trial(
            state=optuna.trial.TrialState.RUNNING,
            **self._told(values),
            intermediate_values=_numbered(epochs),
        )
        return self._pruner.prune(self._study, trial)

    def add(self, trial: Trial, validation: float | None) -> None:
        """Keep a trial that is over; ``validation`` is the best of its epochs."""
        more = {"run": trial.run, "error": trial.error}
        self._study.add_trial(
            create_trial(
                state=_STATES[trial.state],
                value=None if trial.state == "failed" else validation,
                **self._told(trial.values),
                intermediate_values=_numbered(trial.epochs),
                user_attrs={key: value for key, value in more.items() if value},
            )
        )

    def _read(self, found: optuna.trial.FrozenTrial) -> Trial:
        return Trial(
            number=found.number + 1,
            state={state: name for name, state in _STATES.items()}[found.state],
            values=self._plain(found.params),
            epochs=[value for _, value in sorted(found.intermediate_values.items())],
            run=found.user_attrs.get("run", ""),
            error=found.user_attrs.get("error", ""),
        )

    def _plain(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Values in the order of the ranges; Optuna knows a choice as its JSON."""
        return {
            key: json.loads(drawn[key]) if each.choices is not None else drawn[key]
            for key, each in self._search.ranges.items()
        }

    def _told(self, values: Mapping[str, Any]) -> dict[str, Any]:
        params = {
            key: json.dumps(value) if self._search.ranges[key].choices is not None else value
            for key, value in values.items()
        }
        return {"params": params, "distributions": self._kinds}


def _numbered(epochs: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(epochs))


def _distribution(each: Range) -> BaseDistribution:
    if each.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in each.choices])
    low, high, step = each.low, each.high, each.step
    if each.is_whole:
        return IntDistribution(int(low or 0), int(high or 0), log=each.log, step=int(step or 1))
    return FloatDistribution(float(low or 0), float(high or 0), log=each.log, step=step)
