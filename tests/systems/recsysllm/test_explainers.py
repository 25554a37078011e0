"""What explains from ids: what can be learned is, nothing ahead is read, hints decide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from legos.errors import DataError
from legos.systems.recsysllm.explainers import (
    EXPLAINERS,
    Explainer,
    ExplainerKind,
    Nrt,
    Peter,
    Sentences,
    Vocabulary,
    train_explainer,
)
from legos.systems.recsysllm.measure_settings import ExplanationModelSettings

OWN = ExplanationModelSettings(size=16, epochs=150, dropout=0.0, lr=0.02, batch_size=32)
KINDS: tuple[ExplainerKind, ...] = tuple(EXPLAINERS)
NOBODY = torch.zeros(0, dtype=torch.int64)
NONE = Sentences(NOBODY, NOBODY, torch.zeros(0), [], [])
WORDS = ("soft", "warm", "loud", "thin")


def world(features: Sequence[str] = ("strap", "cover")) -> Sentences:
    """Every item has an opinion word of its own; the feature of a pair is a coin's."""
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(4))
    coin = torch.arange(len(pairs)) % 3 % 2
    named = [features[at] for at in coin.tolist()]
    told = [
        f"the {f} is {WORDS[item]}" for f, item in zip(named, pairs[:, 1].tolist(), strict=True)
    ]
    stars = torch.full((len(pairs),), 4.0)
    stars[0] = math.nan
    return Sentences(pairs[:, 0], pairs[:, 1], stars, told, named)


def trained(kind: ExplainerKind, *, epochs: int, seed: int = 0) -> Explainer:
    own = OWN.model_copy(update={"epochs": epochs})
    return train_explainer(kind, world(), NONE, num_users=9, num_items=5, seed=seed, settings=own)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_items_and_hints_are_learned(kind: ExplainerKind) -> None:
    found = trained(kind, epochs=350 if kind == "nrt" else 120)
    users, items = torch.tensor([1, 2, 3, 4]), torch.arange(4)
    for feature in ("strap", "cover"):
        texts = found.write(users, items, [feature] * 4)
        assert [text.split()[-1] for text in texts] == list(WORDS)
        if kind == "peter+":  # the others do not know which feature is asked for
            assert [text.split()[1] for text in texts] == [feature] * 4
    first = found.write(users, items, ["strap"] * 4)
    assert kind == "peter+" or first == found.write(users, items, ["cover"] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_sentences_and_unknown_ids_get_one(
    kind: ExplainerKind,
) -> None:
    asked = torch.tensor([8, 0, 8]), torch.tensor([4, 0, 1]), ["strap", "of no kind", "cover"]
    texts = trained(kind, epochs=5, seed=3).write(*asked)
    assert texts == trained(kind, epochs=5, seed=3).write(*asked)
    assert len(texts) == 3


def test_nothing_ahead_is_read() -> None:
    known = torch.ones(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)
    words = torch.tensor([[1, 5, 6, 7]])
    other = torch.tensor([[1, 5, 6, 9]])
    asked = torch.tensor([1]), torch.tensor([2]), torch.tensor([4])
    for model in (Nrt(12, known, OWN), *(Peter(12, known, OWN, hinted=h) for h in (True, False))):
        told, changed = model.eval()(*asked, words), model(*asked, other)
        assert torch.equal(told.words[:, :3], changed.words[:, :3])
        assert not torch.allclose(told.words[:, 3], changed.words[:, 3])
        assert torch.equal(told.stars, changed.stars)
        assert told.context is None or torch.equal(told.context, changed.context)
        item = model(asked[0], torch.tensor([0]), asked[2], words)
        assert not torch.allclose(told.stars, item.stars)  # the user's place sees the item


def test_words_by_hand() -> None:
    vocabulary = Vocabulary(["a b a", "a c"], 2)  # two words are known: a, and b before c
    assert vocabulary.encode(["b a z", ""], 2).tolist() == [[5, 4, 2], [2, 0, 0]]
    assert vocabulary.encode(["b a z"], 9).tolist() == [[5, 4, 3, 2]]
    assert vocabulary.decode([5, 4, 2, 4]) == "b a"
    assert vocabulary.numbers(["a", "z"]).tolist() == [4, 3]


def test_the_best_pass_on_valid_sentences_is_kept() -> None:
    """With a valid set that says the opposite no later pass is better than the first ones."""
    wrong = world()._replace(sentences=["loud loud loud"] * 32)
    own = OWN.model_copy(update={"patience": 2, "epochs": 30})
    kept = train_explainer("nrt", world(), wrong, num_users=9, num_items=5, seed=0, settings=own)
    texts = kept.write(torch.tensor([1, 2, 3, 4]), torch.arange(4), [""] * 4)
    assert [text.split()[-1:] for text in texts] != [[word] for word in WORDS]
    with pytest.raises(DataError, match="no training explanation"):
        train_explainer("nrt", NONE, NONE, num_users=1, num_items=1, seed=0)
