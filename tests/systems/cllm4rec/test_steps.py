"""What learns in each step, and what does not.

| invariant | test |
|---|---|
| backbone bit-identical, two tables a set learn | test_backbone_stays_and_one_set_learns |
| a step never changes the other set | test_backbone_stays_and_one_set_learns |
| which rows get gradients | test_rows_with_gradients |
| weight 0 = LLM-CF | test_weight_zero_is_llm_cf |
| tied item head | test_item_head_is_the_item_table |
| checkpoints, strict names | test_training_goes_on_bit_identically, test_names_are_strict |
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from legos.errors import CheckpointError, ConfigError
from legos.runs.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from legos.systems.cllm4rec.batches import (
    ContentLM,
    InteractionLM,
    PromptBatch,
    RecommendationPrompts,
    content_kind,
)
from legos.systems.cllm4rec.losses import combine
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from legos.training.weights import load_model_tensors, model_tensors
from tests.systems.cllm4rec.small import (
    FAMILIES,
    ragged,
    small_cllm4rec,
    small_templates,
)

USERS, ITEMS = 5, 12
OWNED = ragged([[0, 3, 5, 7], [1, 2], [4, 6, 8, 9, 10], [0, 11], [2, 3, 5]])
TEMPLATES = small_templates(USERS, ITEMS)
CASES = ("collaborative", "content", "recommendation")


def settings(**given: Any) -> Cllm4RecConfig:
    return Cllm4RecConfig.model_validate(given)


def texts(config: Cllm4RecConfig) -> ContentLM:
    return ContentLM(
        torch.tensor([content_kind("review")] * 3),
        torch.tensor([0, 2, 4]),
        torch.tensor([5, 6, 2]),
        ragged([[30, 31, 32], [33, 30], [29, 28, 27, 26]]),
        TEMPLATES,
        config,
    )


def loss_of(model: Cllm4Rec, case: str, *, epoch: int = 0, rows: Tensor | None = None) -> Tensor:
    config = model.settings
    rows = torch.tensor([0, 2]) if rows is None else rows
    if case == "collaborative":
        data = InteractionLM(OWNED, TEMPLATES, config, seed=1)
        return combine(model(data.batch(rows, epoch=epoch), "collaborative"), config.mutual)
    if case == "content":
        return combine(model(texts(config).batch(rows), "content"), config.mutual)
    prompts = RecommendationPrompts(OWNED, TEMPLATES, config, seed=1)
    return combine(model(prompts.batch(rows, epoch=epoch), "recommendation"), config.mutual)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_backbone_stays_and_one_set_learns(family: str, case: str) -> None:
    model = small_cllm4rec(settings(), users=USERS, items=ITEMS, family=family).train()
    before = copy.deepcopy(model.state_dict())
    side: Any = "content" if case == "content" else "collaborative"
    learning = model.learning(side)
    assert sorted(learning) == [f"{side}.item.weight", f"{side}.user.weight"]
    optimizer = torch.optim.Adam(learning.values(), lr=1e-2)
    for step in range(3):
        optimizer.zero_grad()
        loss_of(model, case, epoch=step).backward()
        optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in learning), name
    assert all(p.grad is None for name, p in model.named_parameters() if name not in learning)


def test_rows_with_gradients() -> None:
    # one row short enough to be checked by eye: users 0 and 2, items as in OWNED
    model = small_cllm4rec(settings(mutual={"weight": 0.0}), users=USERS, items=ITEMS)

    def touched(weight: Tensor) -> list[int]:
        assert weight.grad is not None
        return weight.grad.abs().sum(1).nonzero()[:, 0].tolist()

    assert model.content is not None
    loss_of(model, "content").backward()  # rows 0 and 2 are of users 0, 4 and items 5, 2
    assert touched(model.content.user.weight) == [0, 4]
    assert touched(model.content.item.weight) == [2, 5]
    loss_of(model, "collaborative").backward()
    assert touched(model.collaborative.user.weight) == [0, 2]
    assert touched(model.collaborative.item.weight) == list(range(ITEMS))


def test_weight_zero_is_llm_cf() -> None:
    states = []
    for enabled in (True, False):
        config = settings(mutual={"weight": 0.0}, content={"enabled": enabled})
        model = small_cllm4rec(config, users=USERS, items=ITEMS)
        optimizer = torch.optim.Adam(model.learning("collaborative").values(), lr=1e-2)
        for case in ("collaborative", "recommendation"):
            for step in range(3):
                optimizer.zero_grad()
                loss_of(model, case, epoch=step).backward()
                optimizer.step()
        states.append(model.collaborative.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    coupled = small_cllm4rec(settings(), users=USERS, items=ITEMS)
    alone = small_cllm4rec(settings(mutual={"weight": 0.0}), users=USERS, items=ITEMS)
    assert loss_of(coupled, "collaborative") > loss_of(alone, "collaborative")


def test_warm_up_is_the_content_model_alone() -> None:
    model = small_cllm4rec(settings(), users=USERS, items=ITEMS)
    batch = texts(model.settings).batch(torch.tensor([0, 1]))
    assert float(model(batch, "content", mutual=False).regularisation) == 0.0
    assert float(model(batch, "content").regularisation.detach()) > 0.0
    with pytest.raises(ConfigError, match="content is off"):
        small_cllm4rec(settings(content={"enabled": False}), users=5, items=12)(batch, "content")


def test_temperature_divides_the_scores_of_words_alone() -> None:
    config = settings(content={"kinds": []})
    model = small_cllm4rec(config, users=USERS, items=ITEMS).eval()
    batch = texts(config).batch(torch.arange(3))
    items = InteractionLM(OWNED, TEMPLATES, config, seed=1).batch(torch.arange(3), epoch=0)
    untouched = model(items, "collaborative").likelihood
    model.backbone.temperature = 4.0
    assert torch.equal(model(items, "collaborative").likelihood, untouched)
    assert model.content is not None
    states = model.backbone.states(batch.tokens, batch.prompt_lengths, model.content)
    expected = torch.zeros(())
    for row, prompt in enumerate(batch.prompt_lengths.tolist()):
        first, last = batch.tokens.offsets[row : row + 2].tolist()
        main = slice(first + prompt - 1, last - 1)  # what stands before a word predicts it
        scores = states[main] @ model.backbone.output_table.T / 4
        wanted = batch.tokens.values[first + prompt : last].long()
        expected = expected + torch.nn.functional.cross_entropy(scores, wanted, reduction="sum")
    assert torch.allclose(model(batch, "content").likelihood, expected)


def test_parts_of_a_batch_add_up() -> None:
    for preset in ("paper", "public_code"):
        model = small_cllm4rec(settings(preset=preset), users=USERS, items=ITEMS)
        data = InteractionLM(OWNED, TEMPLATES, model.settings, seed=1)
        users = torch.arange(5)
        whole = model(data.batch(users, epoch=0), "collaborative")
        parts = [model(data.batch(part, epoch=0), "collaborative") for part in users.split([2, 3])]
        assert sum(part.divisor for part in parts) == whole.divisor
        total = sum(
            combine(part, model.settings.mutual, count=whole.divisor).detach() for part in parts
        )
        assert torch.allclose(
            torch.as_tensor(total), combine(whole, model.settings.mutual).detach(), rtol=1e-6
        )


def test_score_first_adds_one_term_a_row() -> None:
    counts = []
    for first in (True, False):
        model = small_cllm4rec(settings(score_first_main=first), users=USERS, items=ITEMS)
        data = InteractionLM(OWNED, TEMPLATES, model.settings, seed=1)
        counts.append(model(data.batch(torch.arange(5), epoch=0), "collaborative").divisor)
    assert counts == [16, 16 - 5]


def test_item_head_is_the_item_table(tmp_path: Path) -> None:
    model = small_cllm4rec(settings(), users=USERS, items=ITEMS)
    tables = [name for name in model.state_dict() if not name.startswith("backbone.")]
    assert len(tables) == 4  # the head is no table of its own
    prompts = RecommendationPrompts(OWNED, TEMPLATES, model.settings, seed=1)
    batch = prompts.prompts(torch.tensor([0, 1]))
    fresh = small_cllm4rec(settings(), users=USERS, items=ITEMS, seed=9)
    load_model_tensors(fresh, model_tensors(model), origin="here")
    for other in (copy.deepcopy(model), fresh, model.to(torch.float64).to(torch.float32)):
        assert other.item_head is other.collaborative.item.weight
        with torch.no_grad():
            scores = other.scores(batch)
            other.collaborative.item.weight[11] *= 3  # not in these prompts: only the head
            assert torch.allclose(other.scores(batch)[:, 11], 3 * scores[:, 11])
            assert torch.equal(other.scores(batch)[:, :11], scores[:, :11])


@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_training_goes_on_bit_identically(tmp_path: Path, train: str) -> None:
    def run(model: Cllm4Rec, optimizer: Any, steps: range) -> None:
        model.train()
        for step in steps:
            optimizer.zero_grad()
            loss_of(model, "recommendation", epoch=step).backward()
            optimizer.step()

    def make(seed: int) -> tuple[Cllm4Rec, Any]:
        model = small_cllm4rec(settings(), users=USERS, items=ITEMS, seed=seed, train=train)
        return model, torch.optim.Adam(model.learning("collaborative").values(), lr=1e-2)

    torch.manual_seed(0)
    first, optimizer = make(0)
    run(first, optimizer, range(2))
    moments = {
        f"{row}.{name}": value
        for row, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    write_checkpoint(
        tmp_path / "last",
        Checkpoint(model_tensors(first), {}, {**moments, "rng": torch.get_rng_state()}),
    )
    run(first, optimizer, range(2, 4))
    second, fresh = make(5)
    stored = read_checkpoint(tmp_path / "last")
    load_model_tensors(second, stored.model, origin="here")
    state = fresh.state_dict()
    for key, value in stored.optimizer.items():
        if key != "rng":
            row, _, name = key.partition(".")
            state["state"].setdefault(int(row), {})[name] = value
    fresh.load_state_dict(state)
    torch.set_rng_state(stored.optimizer["rng"])  # dropout
    run(second, fresh, range(2, 4))
    for name, value in model_tensors(first).items():
        assert torch.equal(value, model_tensors(second)[name]), name


def test_names_are_strict() -> None:
    model = small_cllm4rec(settings(), users=USERS, items=ITEMS, train="full")
    state = model_tensors(model)
    prefixed = {f"transformer.{name}": value for name, value in state.items()}
    with pytest.raises(CheckpointError, match=r"backbone\S* is not in the checkpoint"):
        load_model_tensors(model, prefixed, origin="here")
    with pytest.raises(CheckpointError, match=r"transformer\S* is not in the model"):
        load_model_tensors(model, {**state, **prefixed}, origin="here")
    state["collaborative.user.weight"] = torch.zeros(1, 1)
    with pytest.raises(CheckpointError, match=r"collaborative\.user\.weight is \(1, 1\)"):
        load_model_tensors(model, state, origin="here")


def test_a_batch_without_targets_is_refused() -> None:
    model = small_cllm4rec(settings(), users=USERS, items=ITEMS)
    batch = texts(model.settings).batch(torch.tensor([0]))
    assert isinstance(batch, PromptBatch)
    with pytest.raises(ConfigError, match="no targets"):
        model(batch, "recommendation")
