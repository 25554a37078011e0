"""Horizons are drawn 10/30/60 %, show nothing held out and stay in the order of time."""

from __future__ import annotations

import math

import pytest
import torch

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.settings import HorizonSettings
from legos.systems.recsysllm.tasks import events as module
from legos.systems.recsysllm.tasks.events import LONG, MEDIUM, SHORT, HorizonSampler
from tests.systems.recsysllm.small import ragged

DAY = 86_400


def _daily(users: int, events: int) -> Ragged:
    return ragged([[DAY * day for day in range(events)] for _ in range(users)])


@pytest.mark.slow
def test_horizons_come_in_their_shares_and_nothing_held_out_is_shown() -> None:
    settings = HorizonSettings(max_items=40)
    sampler = HorizonSampler(_daily(1000, 302), held_out=2, settings=settings, seed=3)
    counts = torch.zeros(3)
    for epoch in range(10):
        found = sampler.draw(sampler.usable(), epoch=epoch)
        counts += torch.bincount(found.drawn, minlength=3)
        assert int(found.events.values.max()) < 300
        inside = found.events.rows[1:] == found.events.rows[:-1]
        assert bool((found.events.values.diff()[inside] > 0).all())  # chronological, no repeats
        spans = found.events.values[found.events.offsets[1:] - 1]
        spans = spans - found.events.values[found.events.offsets[:-1]]
        assert int(spans[found.taken == SHORT].max()) < 7
        assert int(found.events.lengths.max()) <= 40
        assert int(spans[found.taken == LONG].max()) > 200  # of the whole past, not its end
    for share, count in zip((0.6, 0.3, 0.1), counts.tolist(), strict=True):
        assert abs(count - 10_000 * share) < 3 * math.sqrt(10_000 * share * (1 - share))


def test_a_draw_depends_on_seed_epoch_and_user_alone() -> None:
    sampler = HorizonSampler(_daily(50, 60), held_out=2, settings=HorizonSettings(), seed=1)
    whole, some = sampler.draw(torch.arange(50), epoch=4), torch.tensor([31, 7])
    part = sampler.draw(some, epoch=4)
    assert part.events.values.tolist() == whole.events.select(some).values.tolist()
    other = sampler.draw(torch.arange(50), epoch=5)
    assert other.events.values.tolist() != whole.events.values.tolist()


def test_short_windows_give_way_to_longer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "below", lambda bits, limit: limit - 1)  # ends at the last event
    times = ragged([[0, 80 * DAY, 81 * DAY, 500 * DAY], [0, 400 * DAY]])
    settings = HorizonSettings(long_weight=0, medium_weight=0, short_weight=1, min_items=2)
    found = HorizonSampler(times, held_out=0, settings=settings, seed=0).draw(
        torch.tensor([0, 1]), epoch=0
    )
    assert found.taken.tolist() == [LONG, LONG]
    held = HorizonSampler(times, held_out=1, settings=settings, seed=0)
    assert held.usable().tolist() == [0]
    assert held.draw(torch.tensor([0]), epoch=0).events.values.tolist() == [1, 2]
    settings = settings.model_copy(update={"short_days": 0.5})
    found = HorizonSampler(times, held_out=1, settings=settings, seed=0).draw(
        torch.tensor([0]), epoch=0
    )
    assert found.taken.tolist() == [MEDIUM]


def test_windows_of_events_need_no_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "below", lambda bits, limit: limit - 1)  # ends at the last event
    times = ragged([[-1] * 30])
    lengths = set()
    for short, medium in ((1, 0), (0, 1), (0, 0)):
        settings = HorizonSettings(
            by="count", max_items=50, short_weight=short, medium_weight=medium,
            long_weight=1 - short - medium,
        )  # fmt: skip
        sampler = HorizonSampler(times, held_out=2, settings=settings, seed=0)
        events = sampler.draw(torch.tensor([0]), epoch=0).events.values.tolist()
        assert events == list(range(28 - len(events), 28))
        lengths.add(len(events))
    assert lengths == {3, 10, 28}


def test_unknown_or_unordered_times_are_refused() -> None:
    with pytest.raises(ConfigError, match="by: count"):
        HorizonSampler(ragged([[-1, 4]]), held_out=0, settings=HorizonSettings(), seed=0)
    with pytest.raises(DataError, match="user 1"):
        HorizonSampler(ragged([[5], [5, 4]]), held_out=0, settings=HorizonSettings(), seed=0)
