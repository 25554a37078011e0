"""The stream of training rows and the learning rate as functions of the step."""

from __future__ import annotations

import pytest
import torch

from legos.training.distributed import rank_part
from legos.training.optimizer import learning_rate_factor
from legos.training.stream import Stream


def stream(**changes: int) -> Stream:
    settings = {"num_rows": 23, "batch_size": 4, "acc_batch": 1, "epoch_batch": 0, "seed": 3}
    return Stream(**{**settings, **changes})


def rows_of(stream: Stream, steps: range) -> list[int]:
    return [row for step in steps for part in stream.rows(step).micro_batches for row in part]


def test_a_pass_visits_every_row_once_the_last_step_being_short() -> None:
    one = stream()
    assert one.steps_per_epoch == 6
    assert sorted(rows_of(one, range(6))) == list(range(23))
    assert one.rows(5).total == 3


def test_the_next_pass_has_another_order() -> None:
    one = stream()
    assert rows_of(one, range(6)) != rows_of(one, range(6, 12))
    assert one.rows(6).pass_number == 1


def test_a_step_is_the_same_whatever_was_asked_before() -> None:
    asked, fresh = stream(), stream()
    for step in (0, 7, 3):
        asked.rows(step)
    assert rows_of(asked, range(3, 4)) == rows_of(fresh, range(3, 4))


def test_accumulated_micro_batches_are_the_rows_of_the_big_batch() -> None:
    small, big = stream(batch_size=2, acc_batch=3), stream(batch_size=6)
    for step in range(5):
        assert rows_of(small, range(step, step + 1)) == rows_of(big, range(step, step + 1))
    assert [part.numel() for part in small.rows(3).micro_batches] == [2, 2, 1]


@pytest.mark.parametrize(
    ("epoch_batch", "acc_batch", "steps"), [(0, 1, 6), (4, 1, 4), (4, 2, 2), (-2, 1, 3), (-4, 1, 2)]
)
def test_epoch_batch_sets_the_steps_of_an_epoch(
    epoch_batch: int, acc_batch: int, steps: int
) -> None:
    assert stream(epoch_batch=epoch_batch, acc_batch=acc_batch).steps_per_epoch == steps


def test_an_epoch_of_a_third_goes_on_where_the_last_one_stopped() -> None:
    third = stream(epoch_batch=-3)
    assert sorted(rows_of(third, range(3 * third.steps_per_epoch))) == list(range(23))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_processes_share_a_micro_batch_without_overlap(count: int) -> None:
    rows = torch.arange(100, 100 + count)
    shared = []
    for rank in range(4):
        part, counted = rank_part(rows, rank, 4)
        assert part.numel() >= 1
        shared += part[:counted].tolist()
    assert shared == rows.tolist()


def test_warm_up_rises_linearly_and_then_stays() -> None:
    factors = [
        learning_rate_factor(step, total=20, warmup=0.2, schedule="constant") for step in range(20)
    ]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(factors[4:]) == {1.0}


def test_linear_decay_falls_to_nothing_at_the_end() -> None:
    factors = [
        learning_rate_factor(step, total=10, warmup=0.0, schedule="linear") for step in range(10)
    ]
    assert factors == pytest.approx([1 - step / 10 for step in range(10)])
    assert learning_rate_factor(10, total=10, warmup=0.0, schedule="linear") == 0.0


def test_without_shuffling_every_pass_has_the_order_of_the_rows() -> None:
    stream = Stream(num_rows=5, batch_size=2, acc_batch=1, epoch_batch=0, seed=3, shuffle=False)
    found = [stream.rows(step).micro_batches[0].tolist() for step in range(4)]
    assert found == [[0, 1], [2, 3], [4], [0, 1]]
