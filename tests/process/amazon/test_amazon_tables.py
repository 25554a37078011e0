"""From raw files to tables: reviews beside them, no leak, the same again, the command line."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from legos.data.interactions import Interactions as Split
from legos.data.reviews import Reviews
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.catalogue import Catalogue
from process.amazon.__main__ import build_parser, main
from process.amazon.assemble import Options, read_amazon, read_cllm4rec, read_prepared
from process.command import run_cli
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import RawData, TokenizerSpec
from process.tables import write_tables
from tests.process.amazon.amazon_files import (
    TINY,
    review_2014,
    rows_of,
    write_json_lines,
    write_lines,
    write_prepared,
    write_public,
    write_sequences,
)

ROOT = Path(__file__).parents[3]
WORDS = [TokenizerSpec("words", "words")]
FEW = Negatives(train=1, candidates=(1, 2), seed=1)
RULES = ("leave-last-out", "by-time", "random-80-10-10")


def options(split: str = "leave-last-out", **changes: object) -> Options:
    return Options(split=split, negatives=FEW, **changes)  # type: ignore[arg-type]


def write(raw: RawData, folder: Path) -> Tables:
    write_tables(raw, folder, WORDS, unitok=False)
    return Tables.load(folder)


def clicks(tables: Tables, split: str) -> set[tuple[str, str]]:
    """(user, item) of every click, as ids."""
    users, items = tables.vocabulary("user_id"), tables.vocabulary("item_id")
    rows = Split.from_tables(tables, split, history_length=50)
    owners = rows.users.repeat_interleave(rows.candidates.lengths)
    clicked = rows.labels == 1
    pairs = zip(owners[clicked].tolist(), rows.candidates.values[clicked].tolist(), strict=True)
    return {(users[user], items[item]) for user, item in pairs}


def test_every_column_holds_what_was_read(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "raw")
    tables = write(read_prepared(folder, name="tiny", options=options()), tmp_path / "tables")
    items, users = tables.vocabulary("item_id"), tables.vocabulary("user_id")
    assert sorted(items) == list("abcdef")
    assert users == ["u1", "u2", "u3", "u4"]
    assert tables.texts("title") == [f"Item {item}" for item in items]
    assert tables.texts("categories")[0] == f"Top > Middle > leaf {ord(items[0]) % 2}"
    assert tables.vocabulary("category") == ["<unknown>", "Middle"]
    assert tables.splits == [
        "train", "valid", "test", "valid_uniform", "test_uniform", "valid_2", "test_2",
    ]  # fmt: skip
    assert clicks(tables, "test") == {("u1", "d"), ("u2", "e"), ("u3", "f")}
    assert clicks(tables, "valid_2") == {("u1", "c"), ("u2", "c"), ("u3", "c")}
    assert clicks(tables, "train") == {("u1", "b"), ("u2", "b"), ("u4", "e")}
    assert tables.manifest["oddities"]["users of fewer than 3 interactions, train only"] == 1
    order = sorted(TINY, key=lambda row: (row[0], row[3]))
    named = [
        (users[user], items[item], rating, time)
        for user, item, rating, time in zip(
            *(tables.scalar("reviews", name).tolist() for name in ("user_id", "item_id")),
            tables.scalar("reviews", "rating").tolist(),
            tables.scalar("reviews", "time").tolist(),
            strict=True,
        )
    ]
    assert named == order
    assert tables.texts("review", table="reviews") == [f"{u} on {i}." for u, i, _, _ in order]
    words = tables.vocabulary("words")
    cut = tables.lists("reviews", "headline@words")
    assert [words[t] for t in cut.values[cut.offsets[2] : cut.offsets[3]]] == ["about", "c"]
    assert tables.manifest["summary"]["further"] == {"reviews": len(TINY)}


@pytest.mark.parametrize("rule", RULES)
def test_training_reviews_hold_no_held_out_pair(tmp_path: Path, rule: str) -> None:
    """Invariant 17 of CLLM4Rec, for every split rule."""
    generator = np.random.default_rng(0)
    rows = [
        (f"u{u:02d}", f"i{item:02d}", float(generator.integers(1, 6)), int(generator.integers(900)))
        for u in range(20)
        for item in generator.permutation(30)[: 4 + u]
    ]
    raw = read_prepared(write_prepared(tmp_path / "raw", rows), name="tiny", options=options(rule))
    tables = write(raw, tmp_path / "tables")
    users, items = tables.vocabulary("user_id"), tables.vocabulary("item_id")
    parts = {
        split: [(users[r.user], items[r.item], r.rating, r.time) for r in found]
        for split in ("train", "valid", "test")
        for found in [Reviews.from_tables(tables, split)]
    }
    assert sorted(itertools.chain(*parts.values())) == sorted(rows)
    assert all(parts.values())
    train = {(user, item) for user, item, _, _ in parts["train"]}
    for split in tables.splits:
        if split == "train":
            assert clicks(tables, split) <= train
        else:
            assert not clicks(tables, split) & train
    for review in Reviews.from_tables(tables):
        assert review.texts["review"] == f"{users[review.user]} on {items[review.item]}."


def test_a_leaking_review_is_refused_by_name(tmp_path: Path) -> None:
    raw = read_prepared(write_prepared(tmp_path / "raw"), name="tiny", options=options())
    raw.further["reviews"].columns["split"][3] = 0  # u1's last one, the test click
    tables = write(raw, tmp_path / "tables")
    with pytest.raises(DataError, match="is said to be 'train', but the pair is a click of 'test'"):
        Reviews.from_tables(tables)
    with pytest.raises(DataError, match="no reviews of split 'tset'; did you mean 'test'"):
        Reviews.from_tables(tables, "tset")


def test_without_ratings_and_reviews_there_is_no_such_table(tmp_path: Path) -> None:
    folder = write_sequences(tmp_path / "raw", {"u": list("abcd"), "v": list("cdef")})
    tables = write(read_prepared(folder, name="s", options=options()), tmp_path / "tables")
    assert "reviews" not in tables.manifest["tables"]
    assert "table_fields" not in tables.manifest
    with pytest.raises(DataError, match="its source has neither ratings nor reviews"):
        Reviews.from_tables(tables)


@pytest.mark.slow
def test_raw_releases_and_prepared_sets_give_the_same_tables(tmp_path: Path) -> None:
    nameless = {"reviewerName": "Amazon Customer"}
    rows = (review_2014(*row, **nameless) for row in TINY)
    reviews = write_json_lines(tmp_path / "r.json.gz", rows)
    metadata = write_lines(
        tmp_path / "m.json.gz",
        (
            str({"asin": item, "title": f"Item {item}",
                 "categories": [["Top", "Middle", f"leaf {ord(item) % 2}"]]})
            for item in "xfedcba"
        ),
    )  # fmt: skip
    clicked = replace(options(), clicked_only=True)
    ours = write(read_amazon([reviews], [metadata], name="t", options=clicked), tmp_path / "a")
    folder = write_prepared(tmp_path / "raw")
    given = write(read_prepared(folder, name="t", options=options()), tmp_path / "b")
    assert ours.fingerprint == given.fingerprint


@pytest.mark.slow
def test_a_user_is_called_what_they_signed_with_last(tmp_path: Path) -> None:
    signed = ["Ann B.", "<3 Ann", "", "kindle customer"]
    rows = [
        review_2014("u1", "abcd"[at], 5.0, 10**9 + at, reviewerName=name)
        for at, name in enumerate(signed)
    ]
    rows += [review_2014("u2", item, 4.0, 10**9, reviewerName=None) for item in "efghi"]
    del rows[-1]["reviewerName"]
    found = []
    for at, order in enumerate((rows, rows[::-1])):
        path = write_json_lines(tmp_path / f"{at}.json", order)
        tables = write(read_amazon([path], [], name="t", options=options()), tmp_path / f"t{at}")
        names = np.array(tables.vocabulary("user_name"))[tables.scalar("users", "user_name")]
        found.append(dict(zip(tables.vocabulary("user_id"), names.tolist(), strict=True)))
        assert "user_name" not in tables.manifest["tables"]["reviews"]
    assert found == [{"u1": "<3 Ann", "u2": "<unknown>"}] * 2
    catalogue = Catalogue.from_tables(tables, item_text="id")
    assert [catalogue.user_name(at)[0].text for at in (0, 1)] == ["<3 Ann", "user_1"]


def test_the_seed_decides_the_candidates_and_nothing_else_does(tmp_path: Path) -> None:
    folder = write_sequences(
        tmp_path / "raw", {f"u{u}": [f"i{(u * 7 + k) % 40}" for k in range(6)] for u in range(30)}
    )

    def made(seed: int, candidates: tuple[int, ...]) -> RawData:
        drawn = Options(negatives=Negatives(4, candidates, seed))
        return read_prepared(folder, name="s", options=drawn)

    first, again, other = made(1, (5, 9)), made(1, (5, 9)), made(2, (5, 9))
    fewer = made(1, (5,))
    for split in first.splits:
        assert rows_of(first, split) == rows_of(again, split)
        assert rows_of(first, split) != rows_of(other, split)
        assert [row[:3] for row in rows_of(first, split)] == [
            row[:3] for row in rows_of(other, split)
        ]
        if split in fewer.splits:
            assert rows_of(first, split) == rows_of(fewer, split)


def test_only_titled_items_stay_when_asked_for(tmp_path: Path) -> None:
    folder = write_prepared(tmp_path / "raw", titled="acd")
    raw = read_prepared(folder, name="t", options=options("random-80-10-10", titled_only=True))
    assert sorted(raw.items["item_id"]) == list("acd")
    assert raw.oddities["interactions with items without a title, dropped"] == 5
    with pytest.raises(DataError, match=r"1 negatives a row are requested, .*; ask for fewer"):
        read_prepared(folder, name="t", options=options(titled_only=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: (raw / "items.jsonl").write_text('{"item_id": "a"}\n'), "'b' is not in items"),
        (lambda raw: (raw / "sequences.tsv").write_text("u\ta\n"), "both are there"),
        (lambda raw: (raw / "reviews.jsonl").unlink(), "neither is there; .* holds: items.jsonl"),
    ],
)
def test_a_prepared_folder_that_does_not_fit_is_named(
    tmp_path: Path, spoil: object, message: str
) -> None:
    folder = write_prepared(tmp_path / "raw")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        read_prepared(folder, name="t", options=options())


def test_a_split_without_impressions_says_so(tmp_path: Path) -> None:
    folder = write_sequences(tmp_path / "raw", {"u": ["a", "b"], "v": ["b", "c"]})
    with pytest.raises(
        DataError, match=r"valid has no impressions; .* the most a user has here is 2"
    ):
        read_prepared(folder, name="s", options=options())


def test_public_files_become_tables_with_their_training_reviews(tmp_path: Path) -> None:
    raw = read_cllm4rec(write_public(tmp_path / "raw"), name="public")
    tables = write(raw, tmp_path / "tables")
    found = Reviews.from_tables(tables)
    assert len(found) == 5
    assert torch.isnan(found.ratings).all()
    assert [r.texts["review"] for r in found] == ["", "I like it", "", "", "My son does"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["process.amazon", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_cli(main, build_parser())
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("", ("ORIGIN", "examples:", "process.amazon cllm4rec")),
        ("reviews", ("unixReviewTime", "parent_asin", "leave-last-out", "1 + 99", "example:")),
        ("prepared", ("sequences.tsv", "--item-core", "random-80-10-10")),
        ("cllm4rec", ("val_matrix.npz", "executing them")),
    ],
)
def test_the_help_teaches(
    help_of: Callable[[str], str], origin: str, expected: tuple[str, ...]
) -> None:
    shown = help_of(f"process.amazon {origin}")
    for text in expected:
        assert text in shown


def test_the_command_makes_tables_once_and_knows_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_prepared(tmp_path / "raw")
    arguments = ["prepared", "--raw", raw, "--output", tmp_path / "tables", "--name", "tiny"]
    arguments += ["--tokenizer", "words=words", "--candidates", "1", "--negatives", "0"]
    assert run(monkeypatch, *arguments) == 0
    assert "table reviews: 13 rows" in capsys.readouterr().out
    assert (tmp_path / "tables/unitok/train/data.pkl").is_file()
    assert not (tmp_path / "tables/unitok/reviews").exists()
    before = (tmp_path / "tables/manifest.json").stat().st_mtime_ns
    assert run(monkeypatch, *arguments) == 0
    assert "up to date" in capsys.readouterr().out
    assert (tmp_path / "tables/manifest.json").stat().st_mtime_ns == before
    assert run(monkeypatch, *arguments, "--seed", "2") == 2
    assert "made with other split_rule, reader; add --force" in capsys.readouterr().err
    tables = Tables.load(tmp_path / "tables")
    assert (Split.from_tables(tables, "train", history_length=9).candidates.lengths == 1).all()
    assert tables.manifest["settings"]["reader"]["filters"] == vars(Filters())


MISTAKES = {
    "no folder": (("prepared", "--raw", "nowhere"), "there is no folder nowhere"),
    "no file": (("reviews", "--reviews", "x.json.gz"), "x.json.gz: no such file"),
    "a core of 0": (
        ("prepared", "--raw", "x", "--user-core", "0"),
        "--user-core: expected",
    ),
    "no candidates": (
        ("prepared", "--raw", "x", "--candidates", "0"),
        "--candidates: expected",
    ),
    "equal candidates": (("prepared", "--raw", "x", "--candidates", "5", "5"), "a number twice"),
    "falling cuts": (("prepared", "--raw", "x", "--cuts", ".9", ".8"), "two rising numbers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mistake: str,
) -> None:
    arguments, message = MISTAKES[mistake]
    assert run(monkeypatch, *arguments, "--output", tmp_path / "tables") == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "tables").exists()


def test_tables_with_reviews_take_user_fields(tmp_path: Path) -> None:
    """What copies tables keeps the further ones."""
    from process.user_fields import add_user_fields

    raw = read_prepared(write_prepared(tmp_path / "raw"), name="tiny", options=options())
    write(raw, tmp_path / "tables")
    profiles = write_lines(tmp_path / "p.jsonl", [json.dumps({"user_id": "u1", "likes": "soap"})])
    add_user_fields(
        tmp_path / "tables", profiles, tmp_path / "more",
        texts=["likes"], categories=[], tokenizer="words",
    )  # fmt: skip
    shutil.rmtree(tmp_path / "tables")
    assert len(Reviews.from_tables(Tables.load(tmp_path / "more"))) == 7
