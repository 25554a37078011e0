"""Early stopping: what improves, what stops, what is refused."""

from __future__ import annotations

import pytest

from legos.errors import LegosError
from legos.training.early_stopping import EarlyStopping


def feed(stopping: EarlyStopping, values: list[float]) -> list[bool]:
    return [
        stopping.update({stopping.metric: value}, epoch=epoch)
        for epoch, value in enumerate(values, start=1)
    ]


def test_a_maximised_metric_improves_when_it_rises() -> None:
    stopping = EarlyStopping("GAUC", True, 3)
    assert feed(stopping, [0.5, 0.6, 0.55]) == [True, True, False]
    assert (stopping.best, stopping.best_epoch, stopping.epochs_since) == (0.6, 2, 1)


def test_a_minimised_metric_improves_when_it_falls() -> None:
    assert feed(EarlyStopping("LogLoss", False, 3), [0.7, 0.6, 0.65]) == [True, True, False]


@pytest.mark.parametrize("maximize", [True, False])
def test_a_plateau_counts_as_no_improvement_and_stops(maximize: bool) -> None:
    stopping = EarlyStopping("m", maximize, 2)
    assert feed(stopping, [0.5, 0.5]) == [True, False]
    assert not stopping.stop
    feed(stopping, [0.5])
    assert stopping.stop


def test_an_improvement_resets_the_patience() -> None:
    stopping = EarlyStopping("m", True, 2)
    feed(stopping, [0.5, 0.4, 0.6, 0.5])
    assert not stopping.stop


def test_patience_zero_never_stops() -> None:
    stopping = EarlyStopping("m", True, 0)
    feed(stopping, [0.5] * 10)
    assert not stopping.stop


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_an_error_naming_metric_and_epoch(value: float) -> None:
    with pytest.raises(LegosError, match=r"GAUC is (nan|inf) after epoch 7"):
        EarlyStopping("GAUC", True, 2).update({"GAUC": value}, epoch=7)


def test_a_metric_that_is_not_computed_names_the_nearest() -> None:
    with pytest.raises(LegosError, match="did you mean 'nDCG@5'"):
        EarlyStopping("nDCG@6", True, 2).update({"nDCG@5": 0.1, "MRR": 0.2}, epoch=1)


def test_the_case_of_a_metric_does_not_matter() -> None:
    assert EarlyStopping("gauc", True, 2).update({"GAUC": 0.5}, epoch=1)


def test_a_restored_state_goes_on_where_it_stopped() -> None:
    first = EarlyStopping("m", True, 2)
    feed(first, [0.5, 0.4])
    second = EarlyStopping("m", True, 2)
    second.load_state(first.state())
    second.update({"m": 0.5}, epoch=3)
    assert second.stop
