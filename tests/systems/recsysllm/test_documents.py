"""Documents and prompts tell what tables know, and nothing that is held out."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from legos.data.tables import Tables
from legos.systems.recsysllm.automaton import EntityPool
from legos.systems.recsysllm.settings import DocumentSettings
from legos.systems.recsysllm.tasks.documents import HistoryWriter
from legos.systems.recsysllm.units import Unit, UnitTokenizer
from legos.systems.recsysllm.world import TaskFamilies
from legos.systems.trie import NOWHERE
from process.user_fields import add_user_fields
from tests.systems.recsysllm.reviews import USERS, epoch_of, families, held_out_pairs, past_of
from tests.systems.recsysllm.small import byte_tokenizer


@pytest.fixture(scope="module")
def known(reviewed: Tables, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The reviewed tables; two thirds of the users have a name, every second region and age."""
    folder = tmp_path_factory.mktemp("known")
    with (folder / "profiles.jsonl").open("w") as handle:
        for user in range(USERS):
            told: dict[str, str | int] = {"user_id": f"u{user}"}
            if user % 3:
                told["name"] = f"Ann {user % 5}"
            if user % 2:
                told |= {"home_region": ("north", "far south")[user % 4 // 2], "age": 20 + user}
            handle.write(json.dumps(told) + "\n")
    add_user_fields(
        reviewed.folder, folder / "profiles.jsonl", folder / "tables", texts=[],
        categories=["name", "home_region"], numbers=["age"], tokenizer="words",
    )  # fmt: skip
    return Tables.load(folder / "tables")


def text_of(units: list[Unit]) -> str:
    return "".join(unit.surface for unit in units)


def writer(made: TaskFamilies, **own: object) -> HistoryWriter:
    settings = DocumentSettings.model_validate(own)
    return HistoryWriter(made.catalogue, made.sequences, made.reviews, settings)


def documents(made: TaskFamilies, **own: object) -> list[list[Unit]]:
    """All training events of every user."""
    counts, write = made.sequences.items.lengths.tolist(), writer(made, **own)
    return [write.document(row, range(count - 2), arrow=False) for row, count in enumerate(counts)]


def test_a_document_tells_of_the_user_the_items_and_the_newest_reviews(known: Tables) -> None:
    made = families(known)
    row = made.sequences.users.tolist().index(5)
    text = text_of(writer(made, detailed=1).document(row, [0, 1], arrow=True))
    first, second = (made.catalogue.items[item] for item in made.sequences.items.row(row)[:2])
    reviews = made.reviews
    assert reviews is not None
    pairs = list(zip(reviews.users.tolist(), reviews.items.tolist(), strict=True))
    at = pairs.index((5, int(made.sequences.items.row(row)[1])))
    assert text.startswith(
        "user_5 is called Ann 0. user_5 has the home region north, the age 25. "
        f"user_5 chose, in this order, {first} -> {second}. {second} has the brand Acme. "
        f"user_5 gave {second} {round(float(reviews.ratings[at]))} of 5 stars. "
    )
    assert text.endswith(f"The headline was: {reviews.headlines[at]}. "
                         f"The review said: {reviews.bodies[at]}")  # fmt: skip


def test_documents_are_sentences_and_reviews_go_with_their_events(known: Tables) -> None:
    made = families(known)
    tokenizer = UnitTokenizer(byte_tokenizer())
    written = documents(made, detailed=9)
    encoded = tokenizer.encode(written)
    for row, units in enumerate(written):
        assert units[-1].text[-1] in ".!?"
        assert "  " not in text_of(units)
        most = 200
        cut = encoded.take(encoded.numbers.select(torch.tensor([row]))).truncated(most)
        assert int(cut.tokens.lengths[0]) <= most
        left = set(cut.events.tolist()) - {-1}
        there = {unit.event for unit in units} - {-1}
        assert left == set(sorted(there)[len(there) - len(left) :])  # the newest, whole
    assert int(encoded.tokens.lengths.max()) > 200
    ends = [
        int(encoded.ends_sentence[encoded.numbers.row(row)].sum()) for row in range(len(written))
    ]
    assert min(ends) >= 1
    assert max(ends) > 8


@pytest.mark.parametrize("split", ["consistent", "p5"])
def test_documents_hold_reviews_of_training_alone(known: Tables, split: str) -> None:
    made = families(known, split=split)
    rows = made.reviews
    assert rows is not None
    named = Counter(text for units in documents(made, detailed=9) for text in [text_of(units)])
    whole = " ".join(named)
    told = {rows.headlines[row] for row in rows.of("train").tolist()}
    for name in ("valid", "test"):
        for row in rows.of(name).tolist():  # headlines name their user, so few are alike
            headline = rows.headlines[row]
            assert not headline or headline in told or f"{headline}." not in whole
    held_out = held_out_pairs(made.sequences)
    for user, units in zip(made.sequences.users.tolist(), documents(made, detailed=9), strict=True):
        items = {unit.key for unit in units if unit.entity_type == "item"}
        assert not {user * made.sequences.num_items + item for item in items} & held_out
    assert sum(headline in whole for headline in told if headline) > 10


def test_what_is_told_can_be_left_out(known: Tables) -> None:
    made = families(known)
    text = " ".join(text_of(units) for units in documents(made, reviews="stars"))
    assert "stars." in text
    assert "headline" not in text
    text = " ".join(text_of(u) for u in documents(made, reviews="nothing", attributes=False))
    assert "stars" not in text
    assert "Acme" not in text
    assert "home region" in text
    bare = families(known, features=False)
    text = " ".join(text_of(units) for units in documents(bare))
    assert "Acme" not in text
    assert "region" not in text
    assert "is called Ann" in text  # a name is a name


def test_pairs_of_templates_differ_where_users_have_names(known: Tables) -> None:
    made = families(known)
    for instances in epoch_of(made, 0).values():
        for one in instances:
            text = text_of(list(one.prompt))
            user, name = made.catalogue.users[one.user], made.catalogue.names[one.user]
            shown = user if "user" in one.template.slots or not name else name
            other = name if shown == user else user
            assert shown in text
            assert not other or f"{other} " not in f"{text} ".replace(shown, "")


def test_prompts_begin_with_what_is_known_of_user_and_item(known: Tables) -> None:
    made = families(known)
    told = Counter[tuple[bool, bool]]()
    for instances in epoch_of(made, 0).values():
        for one in instances:
            text, brand = text_of(list(one.prompt)), made.catalogue.brands[one.item]
            has_region = made.catalogue.of_users[0].values[one.user] != ""
            assert (" has the home region " in text) == has_region
            assert not has_region or text.index(" has the home region ") < 9
            with_brand = "item" in one.template.slots and brand != ""
            assert (f"{made.catalogue.items[one.item]} has the brand Acme." in text) == with_brand
            told[has_region, with_brand] += 1
    assert len(told) == 4
    for instances in epoch_of(families(known, features=False), 0).values():
        assert not any("has the" in text_of(list(one.prompt)) for one in instances)


def test_values_and_names_are_entities_of_the_pool_and_numbers_are_not(known: Tables) -> None:
    made = families(known)
    tokenizer = UnitTokenizer(byte_tokenizer())
    pool = EntityPool(tokenizer, made.catalogue.entities())
    encoded = tokenizer.encode(documents(made))
    nodes = pool.trie().find(encoded.units.select(encoded.is_entity.nonzero()[:, 0]))
    assert bool((nodes != NOWHERE).all())
    kinds = Counter(unit.entity_type for units in documents(made) for unit in units)
    assert kinds["name"] > 10
    assert kinds["value"] > 10
    ages = [u for units in documents(made) for u in units if u.text in map(str, range(21, 60))]
    assert ages
    assert not any(unit.entity_type for unit in ages)


@pytest.mark.slow
def test_training_prompts_are_as_long_as_those_of_a_test(known: Tables) -> None:
    lengths = {}
    for history in ("p5", "horizon"):
        made = families(known, history=history)
        task = made.users["sequential"]
        tested = task.evaluate(torch.arange(len(made.sequences)), "sequential-2", "test")
        trained = [one for epoch in range(4) for one in epoch_of(made, epoch)["sequential"]]
        trained = [one for one in trained if one.template.intent == "next"]
        lengths[history] = sum(len(past_of(one)) for one in trained) / len(trained)
        of_test = sum(len(past_of(one)) for one in tested) / len(tested)
    # P5's rule by hand: of n training events the target is one of the last 4 after the first, the
    # start one of the first 3 before it; the test tells of n + 1 events
    counts = [n for n in (made.sequences.items.lengths - 2).tolist() if n >= 2]
    expected = 0.0
    for n in counts:
        targets = list(range(max(1, n - 4), n))
        starts = [list(range(min(3, target))) for target in targets]
        mean = [sum(t - s for s in own) / len(own) for t, own in zip(targets, starts, strict=True)]
        expected += sum(mean) / len(mean) / len(counts)
    assert lengths["p5"] == pytest.approx(expected, rel=0.05)
    assert of_test == pytest.approx(sum(n + 1 for n in (made.sequences.items.lengths - 2).tolist())
                                    / len(made.sequences))  # fmt: skip


@pytest.mark.slow
def test_lists_of_training_have_each_of_the_sizes(known: Tables) -> None:
    made = families(known, num_negatives=[3, 9])
    sizes = Counter[int]()
    for epoch in range(3):
        for name in ("sequential", "direct"):
            for one in epoch_of(made, epoch)[name]:
                if "candidates" in one.template.slots:
                    sizes[len(one.candidates)] += 1
                    assert one.candidates.count(one.item) == 1
                    assert len(set(one.candidates)) == len(one.candidates)
    assert sizes.keys() == {4, 10}
    total = sizes.total()
    assert abs(sizes[4] / total - 0.5) < 3 * (0.25 / total) ** 0.5


def test_of_a_small_catalogue_lists_are_as_long_as_items_are_left(known: Tables) -> None:
    made = families(known, num_negatives=[99])
    left = known.num_items - int(made.sequences.seen("valid").lengths.max())
    drawn = epoch_of(made, 0)["direct"]
    assert {len(one.candidates) for one in drawn if one.candidates} == {1 + left}
