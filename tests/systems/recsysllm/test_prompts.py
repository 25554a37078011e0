"""Templates: counts, intents, slots, what is held out, and what their file may say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from legos.errors import ConfigError
from legos.systems.recsysllm.prompts import FAMILIES, Template, builtin_prompts
from legos.systems.recsysllm.units import entity, plain

# P5's templates: the numbers of those of each intent
INTENTS = {
    "rating": {"score": (1, 2, 5, 6, 7, 10), "verify": (3, 8), "like": (4, 9)},
    "sequential": {"next": (1, 2, 3, 4, 5, 6, 13), "choose": (7, 8, 9, 10), "will": (11, 12)},
    "explanation": {
        "pair": (1, 4), "headline": (2, 5), "stars": (3, 6), "joint-feature": (7,), "joint": (8,),
        "feature": (9, 10), "stars-feature": (11, 12),
    },
    "review": {"headline": (1, 3), "stars": (2, 4)},
    "direct": {"will": (1, 2, 3, 4), "choose": (5, 6, 7, 8)},
}  # fmt: skip
SLOTS = {
    ("rating", "score"): {"user", "item"},
    ("rating", "verify"): {"user", "item", "stars"},
    ("rating", "like"): {"user", "item"},
    ("sequential", "next"): {"user", "history"},
    ("sequential", "choose"): {"user", "history", "candidates"},
    ("sequential", "will"): {"user", "history", "item"},
    ("explanation", "pair"): {"user", "item"},
    ("explanation", "headline"): {"user", "item", "headline"},
    ("explanation", "stars"): {"user", "item", "stars"},
    ("explanation", "joint-feature"): {"user", "item", "feature"},
    ("explanation", "joint"): {"user", "item"},
    ("explanation", "feature"): {"user", "item", "feature"},
    ("explanation", "stars-feature"): {"user", "item", "stars", "feature"},
    ("review", "headline"): {"user", "body"},
    ("review", "stars"): {"user", "body"},
    ("direct", "will"): {"user", "item"},
    ("direct", "choose"): {"user", "candidates"},
}
HELD_OUT = {"rating-10", "sequential-13", "explanation-12", "review-4", "direct-8"}


def test_there_are_47_templates_and_7_of_other_domains() -> None:
    prompts = builtin_prompts()
    counts = [len(prompts.of(family)) for family in FAMILIES]
    assert counts == [10, 13, 12, 4, 8, 7]
    assert sum(counts[:5]) == 47
    texts = [" ".join(template.parts) for template in prompts.templates]
    assert len(set(texts)) == len(texts)


def test_the_last_of_each_family_and_all_of_other_domains_are_held_out() -> None:
    prompts = builtin_prompts()
    unseen = {t.name for family in FAMILIES[:5] for t in prompts.of(family, seen=False)}
    assert unseen == HELD_OUT
    assert not prompts.of("transfer", seen=True)


@pytest.mark.parametrize("family", INTENTS)
def test_intents_and_slots_are_those_of_p5(family: str) -> None:
    prompts = builtin_prompts()
    for intent, numbers in INTENTS[family].items():
        for number in numbers:
            template = prompts[f"{family}-{number}"]
            assert template.intent == intent
            slots = {"user" if slot == "user_name" else slot for slot in template.slots}
            assert slots == SLOTS[family, intent]


def test_a_filled_template_keeps_entities_apart_and_quotes_tight() -> None:
    template = builtin_prompts()["explanation-2"]
    units = template.fill(
        {
            "user": [entity("user_1", "user", 1)],
            "item": [entity("Kit", "item", 2)],
            "headline": [plain("So good")],
        }
    )
    text = "".join(unit.surface for unit in units)
    assert text.startswith('user_1 titled a review of Kit with "So good".')
    with pytest.raises(ConfigError, match="<item> was given nothing"):
        template.fill({"user": [entity("user_1", "user", 1)]})


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rating-1'"):
        builtin_prompts()["ratng-1"]


SLOTS_OF_SEQUENCES = {"user", "user_name", "item", "history", "candidates"}
SLOTS_OF_REVIEWS = {
    "user", "user_name", "item", "stars", "headline", "body", "feature", "brand", "price",
}  # fmt: skip


def is_slot(part: str) -> bool:
    return part.startswith("<") and part.endswith(">")


@pytest.mark.parametrize(
    "template", builtin_prompts().templates, ids=lambda template: template.name
)
def test_the_file_of_prompts_is_sound(template: Template) -> None:
    about_users = template.family in ("sequential", "direct")
    assert (template.answer in ("item", "verdict")) or not about_users
    assert template.answer != "item" or about_users
    assert template.slots <= (SLOTS_OF_SEQUENCES if about_users else SLOTS_OF_REVIEWS)
    slots = [part for part in template.parts if is_slot(part)]
    assert len(set(slots)) == len(slots)
    for part, other in pairwise((*template.parts, "<answer>")):
        assert part.strip()
        assert not (is_slot(part) and is_slot(other))  # words between slots, and before the answer
        assert is_slot(part) or not {"<", ">"} & set(part)


def test_held_out_prompts_ask_what_a_seen_one_asks() -> None:
    def question(template: Template) -> tuple[object, ...]:
        slots = frozenset("user" if slot == "user_name" else slot for slot in template.slots)
        return template.family, template.answer, template.intent, slots

    templates = builtin_prompts().templates
    assert len({template.name for template in templates}) == len(templates)
    seen = {question(template) for template in templates if template.seen}
    assert {question(builtin_prompts()[name]) for name in HELD_OUT} <= seen
