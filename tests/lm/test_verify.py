"""A cut that does not compute what the whole model computes is refused, with the number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from legos.errors import ConfigError
from legos.lm import verify
from legos.lm.verify import (
    difference,
    is_verified,
    note_verified,
    some_items,
    states_at,
    verify_items,
)
from tests.bricks import ragged
from tests.lm.families import small_model

TOKENS = ragged([[5, 6, 7], [], [8], [9, 10, 11, 12, 13, 14, 15, 16], [18, 19], [20, 21], [22]])


def verified(model: nn.Module, states: torch.Tensor, *dtypes: str) -> verify.Difference:
    tokens = TOKENS.select(some_items(TOKENS))
    return verify_items(model, 2, tokens, states, name="small", dtypes={*dtypes} or {"fp32"})


def states_of(model: nn.Module) -> torch.Tensor:
    return states_at(model, TOKENS.select(some_items(TOKENS)), 2)


def test_the_longest_and_the_shortest_item_are_among_the_few() -> None:
    chosen = some_items(TOKENS).tolist()
    assert 3 in chosen
    assert {2, 6} & set(chosen)
    assert 1 not in chosen  # it has no token


def test_no_item_is_chosen_of_none() -> None:
    assert not len(some_items(ragged([[], []])))


def test_a_right_cache_differs_by_rounding_alone_and_the_model_stays_whole() -> None:
    model = small_model("gpt2")
    before = model.state_dict().keys()
    assert verified(model, states_of(model)).relative < 1e-6
    assert model.state_dict().keys() == before


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_states_of_another_model_are_refused_with_the_number(share: float) -> None:
    model = small_model("llama")
    other = states_of(small_model("llama", seed=1))
    states = (1 - share) * states_of(model) + share * other
    with pytest.raises(ConfigError, match=r"'small' cut at layer 2 does not .*difference \d"):
        verified(model, states)


def test_what_16_bits_round_is_no_difference_but_other_states_are() -> None:
    model = small_model("llama")
    exact = states_of(model)
    found = verified(model, exact.bfloat16(), "fp32", "bf16")
    assert 1e-6 < found.relative < 0.1
    with pytest.raises(ConfigError, match="does not compute"):
        verified(model, exact.bfloat16() * 3, "fp32", "bf16")


def test_states_that_are_no_numbers_are_refused() -> None:
    model = small_model("bert")
    with pytest.raises(ConfigError, match="relative difference inf"):
        verified(model, torch.full_like(states_of(model), torch.nan))


def test_an_item_that_depends_on_its_batch_is_refused() -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_model("bert")
            self.config = self.inner.config

        def forward(self, input_ids: torch.Tensor, **forgotten: object) -> object:
            return self.inner(input_ids=input_ids)

    model = Leaky().eval()
    with pytest.raises(ConfigError, match="depend on the padding of its batch"):
        verified(model, torch.zeros(1, 16))


def test_difference_is_relative_to_what_is_expected() -> None:
    expected, found = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])
    assert difference(expected, found).relative == pytest.approx(0.1)
    assert difference(expected, found).largest == pytest.approx(0.125)
    assert difference(torch.zeros(2), torch.zeros(2)).relative == 0


def test_a_note_counts_for_the_libraries_that_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_verified(tmp_path)
    note_verified(tmp_path, difference(torch.ones(1), torch.ones(1)), 6)
    assert is_verified(tmp_path)
    monkeypatch.setattr(verify, "version", lambda name: "99.0")
    assert not is_verified(tmp_path)
    (tmp_path / verify.VERIFIED).write_text("[]")
    assert not is_verified(tmp_path)
