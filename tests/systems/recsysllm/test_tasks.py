"""The task families: nothing held out leaks, draws depend on nothing but their names, columns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from legos.data.tables import Tables
from legos.data.vector_files import write_item_codes
from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.catalogue import Catalogue, item_names
from legos.systems.recsysllm.prompts import builtin_prompts
from legos.systems.recsysllm.settings import HorizonSettings
from legos.systems.recsysllm.tasks.events import unseen_items
from legos.systems.recsysllm.tasks.review_tasks import SPLITS, ReviewTask, random_split
from tests.process.table.own import build, small_shop
from tests.systems.recsysllm.reviews import epoch_of, families, held_out_pairs, items_of, past_of
from tests.systems.recsysllm.small import ragged


@pytest.mark.slow
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 50),
    split=st.sampled_from(["consistent", "p5"]),
    history=st.sampled_from(["horizon", "p5"]),
)
def test_nothing_held_out_is_in_a_training_example_but_as_a_wrong_candidate(
    reviewed: Tables, seed: int, epoch: int, split: str, history: str
) -> None:
    made = families(reviewed, seed=seed, split=split, history=history)
    held_out = held_out_pairs(made.sequences)
    rows = made.reviews
    assert rows is not None
    keys = (rows.users * reviewed.num_items + rows.items).tolist()
    of_reviews = {key for key, code in zip(keys, rows.splits.tolist(), strict=True) if code > 0}
    assert (of_reviews == held_out) == (split == "consistent")
    drawn = epoch_of(made, epoch)
    assert min(len(instances) for instances in drawn.values()) > 10
    for name, instances in drawn.items():
        barred = held_out if name in made.users else of_reviews
        for one in instances:
            assert one.template.seen
            named = {one.user * reviewed.num_items + item for item in items_of(one)}
            wrong = set(one.candidates) - {one.item}
            if name in made.users and one.reference == "no":
                wrong.add(one.item)
            assert not (named - {one.user * reviewed.num_items + item for item in wrong}) & barred


@pytest.mark.slow
def test_held_out_items_are_negatives_in_training_as_often_as_any_other(reviewed: Tables) -> None:
    made = families(reviewed)
    sequences = made.sequences
    pool = reviewed.num_items - sequences.seen("valid").lengths
    room = dict(zip(sequences.users.tolist(), pool.tolist(), strict=True))
    held_out = held_out_pairs(sequences)
    for name in ("direct", "sequential"):
        found, expected, variance = 0, 0.0, 0.0
        for epoch in range(15):
            task = made.users[name]
            for one in task.train(torch.arange(len(task)), epoch=epoch):
                wrong = set(one.candidates) - {one.item}
                if not one.candidates and one.reference == "no":
                    wrong = {one.item}
                chance = 2 / room[one.user]
                found += sum(one.user * reviewed.num_items + item in held_out for item in wrong)
                expected += chance * len(wrong)
                variance += chance * (1 - chance) * len(wrong)
        assert expected > 50
        assert abs(found - expected) < 4 * variance**0.5, name


def test_golden_4_p5_splits_80_10_10_with_everyone_in_train() -> None:
    numbers = torch.Generator().manual_seed(0)
    pairs = torch.randperm(300 * 200, generator=numbers)[:4000]
    users, items = pairs // 200, pairs % 200
    splits = random_split(users, items, seed=0)
    assert torch.bincount(splits).tolist() == [3200, 400, 400]
    train = splits == 0
    assert set(users[train].tolist()) == set(users.tolist())
    assert set(items[train].tolist()) == set(items.tolist())
    assert not torch.equal(splits, random_split(users, items, seed=1))
    few = random_split(users[:700], items[:700], seed=0)  # of many users it is the only one
    train = few == 0
    assert set(users[:700][train].tolist()) == set(users[:700].tolist())
    assert set(items[:700][train].tolist()) == set(items[:700].tolist())
    assert int((~train).sum()) > 60
    lonely = random_split(torch.arange(10), torch.arange(10), seed=0)
    assert lonely.tolist() == [0] * 10  # everyone is needed in train


@pytest.mark.parametrize(("count", "sizes"), [(296_337, (237_070, 29_634, 29_633))])
def test_golden_4_sizes_are_those_of_sports(count: int, sizes: tuple[int, ...]) -> None:
    splits = random_split(torch.arange(count) % 35_598, torch.arange(count) % 18_357, seed=0)
    assert tuple(torch.bincount(splits).tolist()) == sizes


@pytest.mark.slow
def test_held_out_prompts_are_for_evaluation_only(reviewed: Tables) -> None:
    made = families(reviewed)
    seen = Counter(
        one.template.name
        for epoch in range(6)
        for instances in epoch_of(made, epoch).values()
        for one in instances
    )
    wanted = {t.name for t in builtin_prompts().templates if t.seen}
    assert set(seen) == wanted  # all 42 and no other
    rating = made.about_reviews["rating"]
    rows = rating.evaluation_rows("test", "rating-10")
    assert len(rows)
    assert {one.template.name for one in rating.evaluate(rows, "rating-10")} == {"rating-10"}
    with pytest.raises(ConfigError, match="family review, expected one of rating"):
        rating.evaluation_rows("test", "review-1")


def test_training_ratings_have_noise_that_rounds_to_the_truth(reviewed: Tables) -> None:
    made = families(reviewed)
    task, rows = made.about_reviews["rating"], made.reviews
    assert rows is not None
    written = [
        (float(one.reference), round(one.stars))
        for epoch in range(3)
        for one in task.train(torch.arange(len(task)), epoch=epoch)
        if one.template.answer == "stars"
    ]
    assert all(round(value) == stars and 1 <= value <= 5 for value, stars in written)
    off = torch.tensor([value - stars for value, stars in written if 2 <= stars <= 4])
    assert 0.14 < float(off.std()) < 0.24  # P5's 0.2, with one decimal and no further than 0.4
    assert abs(float(off.mean())) < 0.05
    some = task.evaluation_rows("test", "rating-7")
    assert all(one.reference in "12345" for one in task.evaluate(some, "rating-7"))


@pytest.mark.slow
def test_draws_depend_on_seed_epoch_and_row_alone(reviewed: Tables) -> None:
    whole, again = families(reviewed).mixture(), families(reviewed).mixture()
    rows = torch.arange(len(whole))
    every = [str(one) for one in whole.batch(rows, epoch=3)]  # as text: NaN is not itself
    assert every == [str(one) for one in again.batch(rows, epoch=3)]
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    parts = [str(one) for part in shuffled.split(17) for one in again.batch(part, epoch=3)]
    assert parts == [every[row] for row in shuffled.tolist()]
    assert every != [str(one) for one in whole.batch(rows, epoch=4)]
    other = families(reviewed, seed=1).mixture()
    assert every != [str(one) for one in other.batch(rows, epoch=3)]


@pytest.mark.parametrize("history", ["horizon", "p5"])
def test_every_draw_of_an_example_is_new_in_another_epoch(reviewed: Tables, history: str) -> None:
    made = families(reviewed, history=history)
    one, other = epoch_of(made, 0), epoch_of(made, 1)
    for name in one:
        pairs = list(zip(one[name], other[name], strict=True))
        if name != "review":  # two templates only, and one of them where there is no headline
            assert any(a.template != b.template for a, b in pairs)
        if name in made.users:
            assert any(set(a.candidates) != set(b.candidates) for a, b in pairs)
            assert any(a.reference != b.reference for a, b in pairs)
    pasts = [
        [[u.key for u in x.prompt if u.event >= 0] for x in drawn["sequential"]]
        for drawn in (one, other)
    ]
    assert pasts[0] != pasts[1]
    assert [x.user for x in one["sequential"]] == [x.user for x in other["sequential"]]


def test_weights_decide_how_often_a_family_comes(reviewed: Tables) -> None:
    weights = {"rating_weight": 3.0, "review_weight": 1.0, "explanation_weight": 0.0}
    for how in ("equal", "data"):  # as many examples as there are, or the same
        made = families(reviewed, **weights, sequential_weight=0.0, direct_weight=0.0, mixture=how)
        mixture = made.mixture()
        assert mixture.names == ["rating", "review"]
        sizes = [len(task) if how == "data" else 1 for task in mixture.tasks.values()]
        assert how == "equal" or sizes[0] != sizes[1]
        wanted = sizes[1] / (3 * sizes[0] + sizes[1])
        share = mixture.families(torch.arange(8000), epoch=0).double().mean()
        assert abs(float(share) - wanted) < 3 * (wanted * (1 - wanted) / 8000) ** 0.5
    none = dict.fromkeys(weights, 0.0)
    with pytest.raises(ConfigError, match="no task has both"):
        families(reviewed, **none, sequential_weight=0.0, direct_weight=0.0).mixture()


def test_answers_follow_from_the_review(reviewed: Tables) -> None:
    made = families(reviewed)
    for one in epoch_of(made, 0)["rating"]:
        stars = round(one.stars)
        match one.template.intent:
            case "score":
                assert one.reference == f"{float(one.reference):.1f}"
                assert round(float(one.reference)) == stars
            case "like":
                assert one.reference == ("like" if stars >= 4 else "dislike")
            case "verify":
                claimed = next(u.text for u in one.prompt if u.text in "12345")
                assert one.reference == ("yes" if claimed == str(stars) else "no")
    rating = made.about_reviews["rating"]
    rows = rating.evaluation_rows("test", "rating-1")
    assert all(one.reference == str(round(one.stars)) for one in rating.evaluate(rows, "rating-1"))
    for one in epoch_of(made, 0)["explanation"]:
        if one.template.answer == "stars-explanation":
            stars, comma, sentence = one.reference.split(" ", 2)
            assert (stars, comma) == (str(round(one.stars)), ",")
            assert sentence.startswith("The ")
        if "feature" in one.template.slots:
            feature = next(u.text for u in one.prompt if u.text in one.reference)
            assert feature in ("strap", "battery", "lotion", "cover")


def test_claims_are_right_in_half_of_the_cases(reviewed: Tables) -> None:
    rating = families(reviewed).about_reviews["rating"]
    rows = torch.arange(len(rating))
    answers = Counter(
        one.reference
        for epoch in range(40)
        for one in rating.train(rows, epoch=epoch)
        if one.template.intent == "verify"
    )
    total = answers.total()
    assert total > 400
    assert abs(answers["yes"] / total - 0.5) < 3 * (0.25 / total) ** 0.5


def test_sequences_are_asked_for_in_order(reviewed: Tables) -> None:
    made = families(reviewed)
    sequential, sequences = made.users["sequential"], made.sequences
    rows = torch.arange(len(sequences))
    assert int(sequences.items.lengths.min()) >= 3
    for split, end in (("test", -1), ("valid", -2)):
        for row, one in enumerate(sequential.evaluate(rows, "sequential-13", split)):
            begin, after = sequences.items.offsets[row], sequences.items.offsets[row + 1]
            whole = sequences.items.values[begin:after].tolist()
            history = [u.key for u in one.prompt if u.entity_type == "item"]
            assert history == whole[:end]
            assert [u.key for u in one.answer] == [whole[end]]
    arrows = sum(
        any(unit.text == "->" for unit in one.prompt)
        for epoch in range(5)
        for one in epoch_of(made, epoch)["sequential"]
    )
    assert arrows
    with pytest.raises(ConfigError, match="expected frozen ones"):
        sequential.evaluate(rows, "sequential-7", "test")


def test_tables_split_in_another_way_are_refused(reviewed: Tables) -> None:
    from legos.systems.recsysllm.tasks.events import Sequences

    other = Tables(reviewed.folder, reviewed.manifest)
    original = other.scalar
    other.scalar = lambda table, column: (  # type: ignore[method-assign]
        original("test", column).flip(0) if (table, column) == ("valid", "history")
        else original(table, column)
    )  # fmt: skip
    found = r"users have other events .* the first of them '.*--split leave-last-out"
    with pytest.raises(DataError, match=found):
        Sequences.from_tables(other)


def test_users_of_more_events_than_a_stored_history_keep_their_newest(tmp_path: Path) -> None:
    from legos.systems.recsysllm.tasks.events import Sequences

    shop = small_shop()
    whole, cut = (
        Sequences.from_tables(
            Tables.load(build(shop.items, shop.events, tmp_path / f"{n}", longest_history=n).folder)
        )
        for n in (100, 5)
    )
    assert whole.items.lengths.max() > 6
    kept = whole.items.tail(6)
    assert torch.equal(cut.items.values, kept.values)
    assert torch.equal(cut.items.offsets, kept.offsets)


def test_titles_missing_or_equal_become_names_of_their_own() -> None:
    titles = ["A b", "", "a B", "A b", "A b (2)", "", "one two three"]
    about = ["", "Acme Hair", "", "", "", "", ""]
    names, counts = item_names(titles, about, max_words=2)
    # the name "A b (2)" is cut to two words, so it is "A b" once more
    assert len({name.lower() for name in names}) == len(names)
    assert names[0] == "A b"
    assert names[1] == "Acme Hair #1"
    assert names[5] == "untitled #5"
    assert names[6] == "one two"
    assert counts == {"missing": 2, "duplicate": 3, "cut": 2}
    names, counts = item_names(["A b", "A b", "A b (2)"], [""] * 3, max_words=9)
    assert names == ["A b", "A b (3)", "A b (2)"]


def test_ids_stand_for_items_where_asked(reviewed: Tables) -> None:
    made = families(reviewed, item_text="id")
    assert made.catalogue.items[3] == "item_3"
    titled = Catalogue.from_tables(reviewed)
    assert titled.counts == {"missing": 2, "duplicate": 1, "cut": 0}
    assert len(set(titled.items)) == reviewed.num_items


def codes_of(tables: Tables, folder: Path) -> Path:
    """A file of codes ``(i // 4, i % 4)`` of item i; item 5 has none, item 6 those of item 7."""
    names = tables.vocabulary("item_id")
    codes = torch.tensor([[item // 4, item % 4] for item in range(tables.num_items)])
    codes[5], codes[6] = -1, codes[7]
    write_item_codes(folder / "codes.safetensors", names[: tables.num_items], codes)
    return folder / "codes.safetensors"


def test_codes_stand_for_items_where_asked(reviewed: Tables, tmp_path: Path) -> None:
    path = codes_of(reviewed, tmp_path)
    coded = families(reviewed, item_text="codes", item_codes=path).catalogue
    assert coded.items[3] == "a0 b3"
    assert coded.items[5].endswith("#5")  # named by what else is known
    assert coded.items[6:8] == ["a1 b3", "a1 b3 (2)"]
    assert coded.counts == {"missing": 1, "duplicate": 1, "cut": 0}
    titled, both = (
        families(reviewed, item_text=text, item_codes=path).catalogue
        for text in ("title", "title_and_codes")
    )
    assert both.items[3] == f"{titled.items[3]} a0 b3"
    assert both.items[5] == titled.items[5]
    assert len(set(coded.items)) == len(set(both.items)) == reviewed.num_items
    with pytest.raises(ValueError, match="item_text codes: item_codes names no file"):
        families(reviewed, item_text="codes")


def test_unseen_items_are_uniform_and_never_had() -> None:
    seen = ragged([[0, 1, 4], [5], []])
    rows = torch.arange(3000)
    drawn = unseen_items(
        rows, seen.select(torch.zeros(3000, dtype=torch.int64)), num_items=7, count=2,
        seed=0, epoch=0,
    )  # fmt: skip
    assert bool((drawn[:, 0] != drawn[:, 1]).all())
    counts = torch.bincount(drawn.flatten(), minlength=7)
    assert counts[[0, 1, 4]].tolist() == [0, 0, 0]
    assert int((counts[[2, 3, 5, 6]] - 1500).abs().max()) < 130
    with pytest.raises(DataError, match="too few are left"):
        unseen_items(rows[:1], seen.select(rows[:1]), num_items=7, count=5, seed=0, epoch=0)


def test_windows_in_days_need_times(reviewed: Tables) -> None:
    made = families(reviewed)
    assert int(made.sequences.times.values.min()) >= 1_000_000
    windows = HorizonSettings(by="count", max_items=3)
    with_counts = families(reviewed, horizons=windows, history="horizon")
    for one in epoch_of(with_counts, 0)["sequential"]:
        assert len(past_of(one)) <= 2


def test_another_domain_is_never_trained_with(reviewed: Tables) -> None:
    made = families(reviewed)
    assert made.reviews is not None
    task = ReviewTask("transfer", made.reviews, made.catalogue, made.prompts, made.settings, seed=0)
    assert len(task) == 0
    rows = task.evaluation_rows("test", "transfer-2")
    branded = [made.catalogue.brand(item) != [] for item in made.reviews.items[rows].tolist()]
    assert branded
    assert all(branded)
    assert not len(task.evaluation_rows("test", "transfer-1"))  # no prices here
    assert set(SPLITS) == {"train", "valid", "test"}
