"""What an experiment YAML may say of a search: how many trials, and ranges by dotted key."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import ValidatorFunctionWrapHandler, WrapValidator, model_validator

from legos.settings import Count, Natural, Settings, refuse_repetition


def _as_given(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    check(value)
    return value


Number = Annotated[float, WrapValidator(_as_given)]
"""A number that stays an integer if it was written as one."""


class Range(Settings):
    """The values of one key: numbers from `low` to `high`, or `choices`."""

    low: Number | None = None
    """The smallest value. Integers are drawn if `low`, `high` and `step` are integers (1, not
    1.0)."""
    high: Number | None = None
    """The largest value."""
    log: bool = False
    """Draw uniformly on a logarithmic scale, for example a learning rate."""
    step: Number | None = None
    """Restrict values to low, low + step, low + 2 step, ...; null: any value between."""
    choices: tuple[Any, ...] | None = None
    """Unordered values, such as names of bricks; takes the place of `low` and `high`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        numbers = {"low": self.low, "high": self.high, "step": self.step, "log": self.log or None}
        given = [key for key, value in numbers.items() if value is not None]
        if self.choices is not None:
            if given:
                raise ValueError(f"choices together with {', '.join(given)}; give only one kind")
            if len(self.choices) < 2:
                raise ValueError("choices: expected two values or more")
            refuse_repetition("choice", map(json.dumps, self.choices))
        elif self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        else:
            self._refuse_numbers(self.low, self.high)
        return self

    def _refuse_numbers(self, low: float, high: float) -> None:
        if low >= high:
            raise ValueError(f"low {low} is not below high {high}")
        if self.log and (low <= 0 or self.step is not None):
            raise ValueError("log: needs low above 0 and no step")
        if self.step is None:
            return
        if self.step <= 0:
            raise ValueError(f"step {self.step}: expected a number above 0")
        rest = (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(self.step))
        if rest:
            reached = Decimal(str(high)) - rest
            raise ValueError(f"steps of {self.step} from {low} never reach {high}; high: {reached}")

    @property
    def is_whole(self) -> bool:
        """Whether all values are integers."""
        return all(type(each) is int for each in (self.low, self.high, self.step or 1))

    @property
    def ends(self) -> tuple[Any, ...]:
        """The smallest and the largest value, or all choices."""
        return self.choices if self.choices is not None else (self.low, self.high)

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(shown_value, self.choices))
        kind = "whole numbers" if self.is_whole else "numbers"
        kind += ", log" if self.log else ""
        kind += "" if self.step is None else f", step {self.step}"
        return f"{self.low} to {self.high} ({kind})"


def shown_value(value: Any) -> str:
    """A value of a range as a table shows it: a float by four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class SearchBudget(Settings):
    """How long a search is."""

    trials: Natural = 20
    """Settings to try; a larger number continues the same search. In a comparison: settings per row
    with ranges; 0: no search, rows keep their settings."""
    random_trials: Natural = 6
    """Random trials before TPE takes over; pruning starts once this many have finished training."""
    prune: bool = True
    """Stop a trial after its second epoch or later if its best validation is below the median of
    the other trials at the same epoch."""


class SearchConfig(SearchBudget):
    """Which settings to try (`exp.mode` search); the metric is that of early stopping."""

    trials: Count = 20
    """Settings to try; a larger number continues the same search."""
    ranges: dict[str, Range]
    """Ranges by dotted key, as on the command line: `exp.train.lr`, `model.user`, `hidden_size`."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.ranges:
            raise ValueError("ranges: expected one or more, by dotted key")
        return self
