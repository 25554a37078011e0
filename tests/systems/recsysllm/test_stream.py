"""The stream of training examples: which events its histories tell, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from legos.data.tables import Tables
from legos.lm.load import LanguageModel
from legos.systems.recsysllm.positions import appended
from legos.systems.recsysllm.recipe import TrainingStream
from legos.systems.recsysllm.settings import RecsysllmModel
from legos.systems.recsysllm.tasks.documents import HistoryWriter
from legos.systems.recsysllm.units import Unit
from legos.systems.recsysllm.world import open_world
from tests.systems.recsysllm.system import system_config


@pytest.mark.slow
def test_histories_with_blanks_never_tell_what_is_held_out(
    reviewed: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"train": {"infill_share": 0.25, "batch_size": 40}}
    config = system_config(reviewed.folder, tmp_path, model=more)
    settings = RecsysllmModel.of(config.model)
    language = LanguageModel(settings.model)
    world = open_world(reviewed, language, settings, seed=3)
    special = appended(language.config.vocab_size)
    told: list[tuple[int, Sequence[int]]] = []
    real = HistoryWriter.document

    def recorded(self: HistoryWriter, row: int, events: Any, *, arrow: bool) -> list[Unit]:
        told.append((row, list(events)))
        return real(self, row, events, arrow=arrow)

    monkeypatch.setattr(HistoryWriter, "document", recorded)
    stream = TrainingStream(world, special, config.exp.train)
    for step in range(20):
        stream.examples(step)
    lengths = world.families.sequences.items.lengths
    for row, events in told:
        assert events == sorted(events)  # in the order of time
        assert max(events) < int(lengths[row]) - 2  # not the two held-out ones
    assert any(max(events) == int(lengths[row]) - 3 for row, events in told)
    share = len(told) / (20 * 40)
    assert share == pytest.approx(0.25, abs=3 * (0.25 * 0.75 / 800) ** 0.5)
    assert len(Counter(row for row, _ in told)) == len(stream._users)
