"""Scores of items have a scale of their own, and vectors of users and items may be dropped out.

| claim | test |
|---|---|
| a fresh T5 begins near the uniform loss | test_a_fresh_t5_begins_near_the_uniform_loss |
| what multiplies scores, by setting and kind | test_what_scores_are_multiplied_by |
| a learned scale learns with items | test_a_learned_scale_is_of_the_collaborative_side |
| dropout: soft tokens, training | test_dropout_is_of_users_and_items_in_training_alone |
| shipped names | test_the_shipped_shapes_can_be_backbones |
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.word_model import word_model
from legos.systems.cllm4rec.backbone import SoftPromptBackbone, SoftTables
from legos.systems.cllm4rec.batches import InteractionLM
from legos.systems.cllm4rec.losses import combine
from legos.systems.cllm4rec.model import Cllm4Rec, initial_item_scale, soft_std
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from legos.systems.cllm4rec.tokenizer import Vocabulary
from tests.systems.cllm4rec.small import (
    WORDS,
    ragged,
    small_backbone,
    small_cllm4rec,
    small_model,
    small_templates,
)

USERS, ITEMS = 12, 200
OWNED = ragged([[(7 * user + 13 * k) % ITEMS for k in range(6)] for user in range(USERS)])
TEMPLATES = small_templates(USERS, ITEMS)


def config_of(**given: Any) -> Cllm4RecConfig:
    return Cllm4RecConfig.model_validate(given)


def item_loss(config: Cllm4RecConfig, *, width: int = 64) -> float:
    """Nats an item of a T5 with fresh weights in transformers' own spread, before any step."""
    model = small_model("t5", hidden_size=width, d_kv=width // 4, initializer_factor=1.0)
    backbone = SoftPromptBackbone(model)
    vocabulary, std = Vocabulary(WORDS, USERS, ITEMS), soft_std(backbone, config)
    generator = torch.Generator().manual_seed(1)
    tables = [SoftTables(vocabulary, width=width, std=std, generator=generator) for _ in range(2)]
    whole = Cllm4Rec(
        backbone=backbone, collaborative=tables[0], content=tables[1], settings=config
    ).eval()
    data = InteractionLM(OWNED, TEMPLATES, config, seed=1)
    with torch.no_grad():
        parts = whole(data.batch(torch.arange(USERS), epoch=0), "collaborative")
    return float(parts.likelihood) / parts.divisor


@pytest.mark.slow
def test_a_fresh_t5_begins_near_the_uniform_loss() -> None:
    uniform = math.log(ITEMS)
    for scale in ("auto", "inverse_sqrt_width", "learned"):
        found = item_loss(config_of(soft_init="token_table", item_scale=scale))
        assert found < 1.3 * uniform
    bare = item_loss(config_of(soft_init="token_table", item_scale="none"))
    assert bare > 3 * uniform  # what the setting is there for
    wide = item_loss(config_of(soft_init="token_table", item_scale="none"), width=256)
    assert wide > 1.5 * bare  # and worse with width, which the scaled loss is not
    assert item_loss(config_of(soft_init="token_table"), width=256) < 1.3 * uniform


@pytest.mark.parametrize(
    ("family", "scale", "expected"),
    [
        ("gpt2", "auto", 1.0),
        ("llama", "auto", 1.0),
        ("t5", "auto", 0.25),  # 16 wide
        ("t5", "none", 1.0),
        ("gpt2", "inverse_sqrt_width", 0.25),
        ("t5", "learned", 0.25),
        ("gpt2", "learned", 1.0),
    ],
)
def test_what_scores_are_multiplied_by(family: str, scale: str, expected: float) -> None:
    config = config_of(item_scale=scale)
    assert initial_item_scale(small_backbone(family), config) == expected
    model = small_cllm4rec(config, users=USERS, items=ITEMS, family=family)
    states = torch.randn(3, 16)
    with torch.no_grad():
        assert torch.allclose(
            model.item_scores(states), expected * states @ model.item_head.T, atol=1e-6
        )


@pytest.mark.parametrize("task", ["collaborative", "recommendation", "content"])
def test_a_learned_scale_is_of_the_collaborative_side(task: str) -> None:
    model = small_cllm4rec(config_of(item_scale="learned"), users=USERS, items=ITEMS)
    scale = model.collaborative.log_scale
    assert scale is not None
    assert ("collaborative.log_scale" in model.learning("collaborative")) is True
    assert "collaborative.log_scale" not in model.learning("content")
    fixed = small_cllm4rec(config_of(), users=USERS, items=ITEMS)
    assert set(dict(model.named_parameters())) - set(dict(fixed.named_parameters())) == {
        "collaborative.log_scale"
    }
    if task == "content":
        return
    data = InteractionLM(OWNED, TEMPLATES, model.settings, seed=1)
    batch = data.batch(torch.arange(USERS), epoch=0)

    def loss(value: float) -> torch.Tensor:
        with torch.no_grad():
            scale.fill_(value)
        return combine(model(batch, "collaborative"), model.settings.mutual)

    begin = loss(0.3)
    begin.backward()
    assert scale.grad is not None
    with torch.no_grad():  # its gradient is the slope
        slope = (loss(0.31) - loss(0.29)) / 0.02
    assert float(scale.grad) == pytest.approx(float(slope), rel=0.05)


def test_dropout_is_of_users_and_items_in_training_alone() -> None:
    backbone = SoftPromptBackbone(small_model("llama"), soft_dropout=0.5)
    tables = SoftTables(Vocabulary(WORDS, USERS, ITEMS), width=16, std=1.0)
    ids = torch.arange(WORDS + USERS + ITEMS)
    plain = backbone.eval().embed(ids, tables)
    assert torch.equal(
        plain, torch.cat([backbone.token_table, tables.user.weight, tables.item.weight])
    )
    torch.manual_seed(0)
    dropped = backbone.train().embed(ids, tables)
    assert torch.equal(dropped[:WORDS], plain[:WORDS])
    soft, before = dropped[WORDS:], plain[WORDS:]
    gone = soft == 0
    assert 0.45 < float(gone.float().mean()) < 0.55
    assert torch.allclose(soft[~gone], 2 * before[~gone])
    torch.manual_seed(0)
    state = torch.get_rng_state()
    whole = SoftPromptBackbone(small_model("llama")).train()
    whole.embed(ids, tables)
    assert torch.equal(torch.get_rng_state(), state)  # none: no random number is drawn


def test_a_user_is_hidden_as_a_whole_wherever_a_batch_names_it() -> None:
    users = 400
    backbone = SoftPromptBackbone(small_model("llama"), user_dropout=0.25)
    tables = SoftTables(Vocabulary(WORDS, users, ITEMS), width=16, std=1.0)
    once = WORDS + torch.arange(users)
    items = WORDS + users + torch.arange(ITEMS)
    ids = torch.cat([once, items, once.flip(0)])
    plain = backbone.eval().embed(ids, tables)
    torch.manual_seed(0)
    found = backbone.train().embed(ids, tables)
    hidden = (found == 0).all(1)
    assert torch.equal(found[~hidden], plain[~hidden])  # nothing grows
    assert not hidden[users : users + ITEMS].any()
    assert torch.equal(hidden[:users], hidden[users + ITEMS :].flip(0))
    assert 0.2 < float(hidden[:users].float().mean()) < 0.3
    found.sum().backward()
    assert tables.user.weight.grad is not None
    assert torch.equal(tables.user.weight.grad.eq(0).all(1), hidden[:users])


@pytest.mark.parametrize(("name", "parameters"), [("gpt2", 124_439_808), ("t5-base", 222_903_552)])
def test_the_shipped_shapes_can_be_backbones(name: str, parameters: int) -> None:
    """Radford et al., 2019, and Raffel et al., 2020: the sizes of their released files."""
    known = yaml.safe_load(Path("config/llm.yaml").read_text(encoding="utf-8"))
    source = LanguageModelSource(name=name, **known[name])
    model = word_model(LanguageModel(source, shapes_only=True), "pretrained")
    backbone = SoftPromptBackbone(model)
    assert sum(each.numel() for each in backbone.parameters()) == parameters
    assert backbone.width == 768
    expected = 1.0 if name == "gpt2" else 768**-0.5
    assert initial_item_scale(backbone, Cllm4RecConfig()) == expected
    small = LanguageModelSource(name=name, **known[f"{name.partition('-')[0]}-random"])
    fresh = SoftPromptBackbone(word_model(LanguageModel(small, shapes_only=True), "random"))
    assert (fresh.width, fresh.words) == (128, 49152)  # SmolLM2's vocabulary
