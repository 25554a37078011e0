"""A search in tables and figures: every trial, the best first, and the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from legos.config.search_schema import Range, SearchConfig, shown_value
from legos.reports.figures import svg
from legos.reports.page import page_of, write_page
from legos.reports.tables import Cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TrialState = Literal["trained", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial that is over.

    Attributes:
        number: counted from 1.
        state: trained to its end; pruned: ended before; failed: diverged, or out of memory.
        values: by dotted key.
        epochs: the validation metric after each.
        run: the run folder; "": the values were refused.
        error: why it failed.
    """

    number: int
    state: TrialState
    values: Mapping[str, Any]
    epochs: Sequence[float] = ()
    run: str = ""
    error: str = ""


@dataclass(frozen=True)
class Found:
    """What a search has found so far.

    Attributes:
        metric: of the validation.
        maximize: whether more of it is better.
        trials: in the order in which they ran.
        test: by split the metrics of the best one, once it is tested.
    """

    metric: str
    maximize: bool
    trials: Sequence[Trial]
    test: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def validation(self, trial: Trial) -> float | None:
        """The best of a trial's epochs."""
        best = max if self.maximize else min
        return best(trial.epochs, default=None)

    @property
    def ranked(self) -> list[Trial]:
        """Trials that were trained to the end, the best first; then pruned ones, then failed."""

        def order(trial: Trial) -> tuple[bool, bool, float]:
            value = self.validation(trial)
            signed = 0.0 if value is None else -value if self.maximize else value
            return trial.state == "failed", trial.state == "pruned", signed

        return sorted(self.trials, key=order)

    @property
    def best(self) -> Trial | None:
        """The best one that was trained to the end."""
        return next((each for each in self.ranked if each.state == "trained"), None)

    def __str__(self) -> str:
        states = Counter(trial.state for trial in self.trials)
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        return f"{len(self.trials)} trials: {told}"

    @property
    def errors(self) -> list[str]:
        """A line for each trial that failed."""
        failed = [trial for trial in self.trials if trial.state == "failed"]
        return [f"trial {trial.number} failed: {trial.error}" for trial in failed]

    def cells(self) -> Cells:
        """A line for each trial, the best first, and the test of the best one beside it."""
        keys = list(self.trials[0].values)
        tested = {
            f"{split} {self.metric}": each[self.metric]
            for split, each in self.test.items()
            if self.metric in each
        }
        header = ["trial", *short_names(keys).values(), f"valid {self.metric}", *tested]
        lines = []
        for trial in self.ranked:
            value = self.validation(trial)
            lines.append(
                [
                    str(trial.number),
                    *(shown_value(trial.values[key]) for key in keys),
                    "" if value is None else f"{value:.4f}",
                    *(f"{each:.4f}" if trial is self.best else "" for each in tested.values()),
                    str(len(trial.epochs)),
                    trial.state,
                    Path(trial.run).name,
                ]
            )
        return [[*header, "epochs", "state", "run"], *lines]

    def summary(self) -> dict[str, Any]:
        """What ``results.json`` says of the trials."""
        best = self.best
        return {
            "metric": self.metric,
            "best": None if best is None else best.number,
            "trials": [
                {**asdict(each), "validation": self.validation(each)} for each in self.ranked
            ],
        }


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """By dotted key its last part, or more of it where keys end alike."""
    found = {}
    for key in keys:
        parts = key.split(".")
        names = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        found[key] = next(
            name
            for name in names
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1
        )
    return found


def write_search(folder: Path, found: Found, search: SearchConfig, best: Path) -> Path:
    """Write ``report.html`` of a search: the report of its best run, and all trials.

    Args:
        folder: of the search.
        found: every trial.
        search: its ranges.
        best: run folder of the best trial, which is tested.
    """
    page = page_of(best)
    header, *lines = found.cells()
    named = ", ".join(f"{key} {each}" for key, each in search.ranges.items())
    page["title"] = f"Search: {page['title']}"
    page["subtitle"] = f"{folder.name} · its best trial: {page['subtitle']}"
    page["trials"] = {
        "said": f"{found}. Ranges: {named}.",
        "figures": [
            _history(found),
            *(_parameter(found, key, each) for key, each in search.ranges.items()),
        ],
        "table": {
            "head": header[0],
            "metrics": header[1:],
            "rows": {line[0]: [(text, False) for text in line[1:]] for line in lines},
        },
        "models": {lines[0][0]},
        "errors": found.errors,
    }
    return write_page(folder, page)


def _history(found: Found) -> str:
    """Validation of every trial, and the best of those trained to the end so far."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        _points(axes, found, [(trial.number, trial) for trial in found.trials])
        done = [trial for trial in found.trials if trial.state == "trained"]
        values = [value for trial in done if (value := found.validation(trial)) is not None]
        steps = list(accumulate(values, max if found.maximize else min))
        axes.step([trial.number for trial in done], steps, where="post", label="best so far")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="trial", ylabel=f"valid {found.metric}")
        axes.legend(fontsize="small")

    return svg("Search results", draw)


def _parameter(found: Found, key: str, asked: Range) -> str:
    """Validation over one key; choices stand side by side."""
    values = [trial.values[key] for trial in found.trials]
    choices = list(asked.choices or ())

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import NullFormatter

        places = [choices.index(each) for each in values] if choices else values
        _points(axes, found, list(zip(places, found.trials, strict=True)))
        if asked.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        if choices:
            axes.set_xticks(range(len(choices)), list(map(shown_value, choices)))
        axes.set(xlabel=key, ylabel=f"valid {found.metric}")

    return svg(key, draw)


def _points(axes: Axes, found: Found, placed: Sequence[tuple[float, Trial]]) -> None:
    """A point a trial at its place; pruned ones are paler."""
    for state, alpha in (("trained", 1.0), ("pruned", 0.35)):
        known = [(x, found.validation(trial)) for x, trial in placed if trial.state == state]
        points = [(place, value) for place, value in known if value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color="C0", alpha=alpha, label=state)
