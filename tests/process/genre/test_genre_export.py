"""Answers become tables beside the old ones; what has not changed is the very same file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from legos.data.tables import Tables
from legos.errors import DataError
from process.genre.export import add_item_text, choose_answers, write_picks, write_profiles
from process.genre.leak import LeakCheck, content_words, texts_of_users
from process.genre.requests import Requests, Selection
from process.genre.scheme import load_scheme
from process.genre.store import Store
from process.genre.synthetic_items import COLUMN, add_synthetic_items
from process.genre.types import Answer, Sampling
from process.mind import read_mind
from process.synthetic.newsroom import write_newsroom
from process.synthetic.world import NewsroomConfig
from process.tables import TokenizerSpec, write_tables
from process.user_fields import add_user_fields
from tests.bricks import lists
from tests.process.genre.test_store import answer
from tests.tiny import tiny_tables

CONFIG = NewsroomConfig(seed=3, users=60, news=400, training_days=3, impressions=0.6)


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with two text fields, two categories and a UniTok copy."""
    folder = tmp_path_factory.mktemp("newsroom")
    write_newsroom(CONFIG, folder / "raw")
    raw = read_mind(folder / "raw" / "train", folder / "raw" / "dev", name="newsroom")
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")])
    return folder / "tables"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Stands for the store's file."""
    path = tmp_path / "store.jsonl"
    path.write_text("{}\n")
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def generated(users: list[str], category: str = "sports") -> dict[str, Answer]:
    """Two rounds of every user."""
    items = {}
    for number, user in enumerate(users):
        for turn in (1, 2):
            text = {"title": f"Story {number} {turn}", "abstract": "Of a.", "category": category}
            items[f"{user}#{turn}"] = answer(f"{user}#{turn}", answer=text, source="train")
    return items


def test_a_summary_becomes_a_field(newsroom: Path, tmp_path: Path, source: Path) -> None:
    before, old = content(newsroom), Tables.load(newsroom)
    ids, titles = old.vocabulary("item_id"), old.texts("title")
    texts = {ids[3]: f"{titles[5]} {titles[7]}", ids[0]: titles[1], "no such item": "x"}
    folder = tmp_path / "cs"
    made = [
        add_item_text(newsroom, texts, folder, field="newtitle", fallback="title", sources=[source])
        for _ in range(2)
    ]
    assert made[0] == made[1]
    new = Tables.load(folder)
    expected = [texts.get(item, title) for item, title in zip(ids, titles, strict=True)]
    assert new.texts("newtitle") == expected
    rows, old_rows = (
        lists(tables.lists("items", name))
        for tables, name in ((new, "newtitle@words"), (old, "title@words"))
    )
    assert rows[3] == old_rows[5] + old_rows[7]
    assert rows[0] == old_rows[1]
    assert [rows[n] == old_rows[n] for n in range(len(ids))].count(False) == 2
    assert new.text_fields == [*old.text_fields, "newtitle"]
    assert content(newsroom) == before
    for name in before:
        same = (folder / name).stat().st_ino == (newsroom / name).stat().st_ino
        assert same == (name != "manifest.json" and not name.startswith("unitok/items/"))


def test_what_cannot_be_a_field_is_refused(newsroom: Path, tmp_path: Path, source: Path) -> None:
    item = Tables.load(newsroom).vocabulary("item_id")[0]
    for field, texts, fallback, message in (
        ("title", {item: "x"}, None, "of this name"),
        ("a b", {item: "x"}, None, "letters, digits"),
        ("new", {"none": "x"}, None, "about an item"),
        ("new", {item: "x"}, "titel", "did you mean 'title'"),
    ):
        with pytest.raises(DataError, match=message):
            add_item_text(newsroom, texts, tmp_path / "x", field=field, fallback=fallback,
                          sources=[source])  # fmt: skip
    assert not (tmp_path / "x").exists()
    done = tmp_path / "done"
    add_item_text(newsroom, {item: "x"}, done, field="new", sources=[source])
    with pytest.raises(DataError, match="--force"):
        add_item_text(newsroom, {item: "y"}, done, field="new", sources=[source])


def test_synthetic_items_are_flagged_and_named_by_their_users(
    newsroom: Path, tmp_path: Path, source: Path
) -> None:
    before, old = content(newsroom), Tables.load(newsroom)
    users = old.vocabulary("user_id")
    cold = [users[7], users[4], users[5]]
    folder = tmp_path / "cg"
    answers = generated([*cold, "nobody"])
    add_synthetic_items(newsroom, answers, folder, sources=[source], column="written")
    new = Tables.load(folder)
    ids, count = new.vocabulary("item_id"), old.num_items
    assert ids[:count] == old.vocabulary("item_id")
    assert sorted(ids[count:]) == sorted(f"GENRE:written:{u}#{n}" for u in cold for n in (1, 2))
    assert new.scalar("items", COLUMN).tolist() == [False] * count + [True] * 6
    assert new.offered.tolist() == [True] * count + [False] * 6
    assert new.num_items == count + 6 == len(new.texts("title")) == len(new.texts("category"))
    own = [
        [ids.index(f"GENRE:written:{user}#{n}") for n in (1, 2)] if user in cold else []
        for user in users
    ]
    assert lists(new.lists("users", "written")) == own
    words = new.vocabulary("words")
    story = [words[token] for token in lists(new.lists("items", "abstract@words"))[count]]
    assert story == ["of", "a", "."]
    sports = new.vocabulary("category").index("sports")
    assert set(new.scalar("items", "category")[count:].tolist()) == {sports}
    for split in old.splits:  # nobody is ever offered one
        assert lists(new.lists(split, "candidates")) == lists(old.lists(split, "candidates"))
    assert lists(new.lists("histories", "items")) == lists(old.lists("histories", "items"))
    assert new.manifest["oddities"]["generated items of users that the tables do not have"] == 2
    assert content(newsroom) == before
    with pytest.raises(DataError, match="no column that users have"):
        add_synthetic_items(folder, answers, tmp_path / "x", sources=[source], column="written")
    add_synthetic_items(folder, answers, tmp_path / "two", sources=[source], column="chained")
    both = Tables.load(tmp_path / "two")
    assert both.scalar("items", COLUMN).tolist() == [False] * count + [True] * 12
    assert lists(both.lists("users", "written")) == own
    assert lists(both.lists("users", "chained")) == [[row + 6 for row in rows] for rows in own]


def test_unknown_categories_are_counted_and_fields_can_be_named(
    newsroom: Path, tmp_path: Path, source: Path
) -> None:
    users = Tables.load(newsroom).vocabulary("user_id")[:2]
    books = {
        f"{user}#1": answer(f"{user}#1", answer={"name": "A title", "category": "cooking"})
        for user in users
    }
    with pytest.raises(DataError, match="text field of these tables"):
        add_synthetic_items(newsroom, books, tmp_path / "x", sources=[source], column="w")
    manifest = add_synthetic_items(
        newsroom, books, tmp_path / "cg", sources=[source], column="w", rename={"name": "title"}
    )
    assert manifest["oddities"]["generated items of a category the tables do not have"] == 2
    assert Tables.load(tmp_path / "cg").scalar("items", "category")[-2:].tolist() == [0, 0]


def test_all_of_it_one_after_another_opens_with_unitok(
    newsroom: Path, tmp_path: Path, source: Path
) -> None:
    old = Tables.load(newsroom)
    item, users = old.vocabulary("item_id")[0], old.vocabulary("user_id")[:3]
    add_item_text(newsroom, {item: "New"}, tmp_path / "cs", field="newtitle", fallback="title",
                  sources=[source])  # fmt: skip
    add_synthetic_items(
        tmp_path / "cs", generated(users), tmp_path / "cg", sources=[source], column="written"
    )
    profiles = {user: answer(user, answer={"topics": ["sports", "food"], "region": "unknown"})
                for user in users}  # fmt: skip
    assert write_profiles(profiles, tmp_path / "p.jsonl") == 3
    add_user_fields(tmp_path / "cg", tmp_path / "p.jsonl", tmp_path / "all", texts=["topics"],
                    categories=[], tokenizer="words")  # fmt: skip
    new = Tables.load(tmp_path / "all")
    assert new.has("items", COLUMN)
    assert new.texts("newtitle")[-1] == new.texts("title")[-1] != ""
    assert new.lists("users", "topics@words").lengths.sum() > 0
    steps = [next(iter(entry)) for entry in new.manifest["genre"]]
    assert steps == ["item_text", "synthetic_items"]
    import unitok

    for table in ("items", "users", "histories", "train"):
        with unitok.UniTok.load(str(tmp_path / "all/unitok" / table)) as opened:
            assert len(opened) == new.manifest["tables"][table]["rows"]


def test_tiny_tables_without_a_unitok_copy(tmp_path: Path, source: Path) -> None:
    tables = tiny_tables(tmp_path / "tiny")
    manifest = add_synthetic_items(
        tables, generated(["U3"]), tmp_path / "cg", sources=[source], column="w"
    )
    assert manifest["tables"]["items"]["rows"] == 62
    assert not (tmp_path / "cg/unitok").exists()


def test_profiles_are_read_again(tmp_path: Path) -> None:
    told = {"U1": answer("U1", answer={"interests": ["a", "ä"], "region": "unknown"})}
    write_profiles(told, tmp_path / "p.jsonl", {"interests": "likes"})
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {"user_id": "U1", "likes": ["a", "ä"]}
    write_profiles(told, tmp_path / "p.jsonl")
    assert json.loads((tmp_path / "p.jsonl").read_text()) == {
        "user_id": "U1", "interests": ["a", "ä"],
    }  # fmt: skip


def test_picks_are_raw_ids(tmp_path: Path) -> None:
    tables = Tables.load(tiny_tables(tmp_path / "tiny"))
    scheme = load_scheme("history_compressor")
    requests = Requests(scheme, tables, Sampling("m"), Selection("train"))
    user = int(np.argmax(requests.histories.lengths))
    name, rows = tables.vocabulary("user_id")[user], requests.history_rows(user)
    picked = {name: answer(name, answer={"picked": [3, 1]}), "gone": answer("gone")}
    assert write_picks(picked, requests, tmp_path / "picks.jsonl") == 1
    expected = {"user_id": name, "items": [f"N{rows[0]}", f"N{rows[2]}"]}
    assert json.loads((tmp_path / "picks.jsonl").read_text()) == expected
    with pytest.raises(DataError, match="a different history"):
        write_picks({name: answer(name, answer={"picked": [99]})}, requests, tmp_path / "x")


def test_answers_of_several_kinds_want_a_choice(tmp_path: Path) -> None:
    with Store.open(tmp_path, "s") as store:
        store.add([answer("a", source="train"), answer("b", hash="2", source="all")])
        store.add([answer("a", hash="3", source="train", answer={"text": "later"})])
        with pytest.raises(DataError, match="several kinds: source train, model m"):
            choose_answers(store)
        chosen = choose_answers(store, source="train")
        assert chosen["a"]["answer"] == {"text": "later"}
        assert list(chosen) == ["a"]
        with pytest.raises(DataError, match="no answers of source valid; it has source train"):
            choose_answers(store, source="valid")


def test_a_leak_shows_and_chance_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # sports0, sports1, ... are one word without their digits
    monkeypatch.setattr("process.genre.leak.content_words", lambda text: frozenset(text.split()))
    tables = Tables.load(tiny_tables(tmp_path, num_items=400, num_users=120, num_impressions=600))
    check = LeakCheck(tables)
    titles = tables.texts("title")
    leaky = {user: titles[item] for user, item in check.held_out.items()}
    generator = np.random.default_rng(1)
    blind = {user: titles[int(generator.integers(400))] for user in leaky}
    told, guessed = check.compare("leaky", leaky), check.compare("blind", blind)
    again = check.compare("leaky", leaky)
    assert told == again
    assert told.held_out == told.any_held_out == 1
    assert told.low > 0.5
    assert told.distinguishable
    assert told.recovered > 1
    assert not guessed.distinguishable
    assert told.users == guessed.users == len(leaky)


def test_words_and_texts() -> None:
    assert content_words("The Dogs, a dog and 3 books of GLASS!") == {"dog", "glass"}
    answers = {
        "U#1": answer("U#1", answer={"title": "a", "about": ["b"]}),
        "U#2": answer("U#2", answer={"title": "c"}),
        "V": answer("V", answer={"interests": ["d", 3]}),
    }
    assert texts_of_users(answers) == {"U": "a b c", "V": "d"}
