"""Steps are made ahead in a background thread: the same ones, in order, and it ends with them."""

from __future__ import annotations

import threading
import traceback
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from legos.errors import DataError
from legos.training.recipe import Segment, Step
from legos.training.trainer import AHEAD, prepared


def fake(make: Any) -> Any:
    """A recipe of which only ``step`` is used."""
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(step=make, replicas=SimpleNamespace(accelerator=accelerator))


def background() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("examples")]


def test_steps_come_in_order_and_few_are_made_ahead() -> None:
    made: list[int] = []

    def make(number: int) -> Step:
        assert threading.current_thread() is not threading.main_thread()
        made.append(number)
        return Step([number])

    taken = []
    with closing(prepared(fake(make), Segment("", {}, steps=9, done=2, first=10))) as steps:
        for step in steps:
            taken += step.pieces
            assert len(made) <= len(taken) + AHEAD
    assert taken == made == list(range(12, 19))
    assert not background()


def test_an_error_comes_when_its_step_would_with_its_own_traceback() -> None:
    def breaking(number: int) -> Step:
        if number == 1:
            raise DataError("row 7 has no title")
        return Step([number])

    steps = prepared(fake(breaking), Segment("", {}, steps=5))
    assert next(steps).pieces == [0]
    with pytest.raises(DataError, match="row 7 has no title") as caught:
        next(steps)
    assert "breaking" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not background()


def test_an_iterator_that_is_closed_makes_no_more() -> None:
    made: list[int] = []

    def make(number: int) -> Step:
        made.append(number)
        return Step([number])

    with closing(prepared(fake(make), Segment("", {}, steps=99))) as steps:
        assert next(steps).pieces == [0]
    assert len(made) <= 1 + AHEAD
    assert not background()
