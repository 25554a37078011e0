"""``python -m process.user_fields``: what users say, beside tables that stay what they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from legos.config.data_schema import FieldConfig
from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.errors import DataError
from process.mind import read_mind, read_mind_impressions
from process.synthetic.newsroom import write_newsroom
from process.synthetic.world import NewsroomConfig
from process.tables import TokenizerSpec, new_impressions_tables, write_tables
from process.user_fields import add_user_fields
from tests.bricks import lists

CONFIG = NewsroomConfig(seed=3, users=60, news=400, training_days=3, impressions=0.6)
FIELDS = [FieldConfig(column="interests@words"), FieldConfig(column="region")]


@pytest.fixture(scope="module")
def newsroom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``raw/``, ``tables/``, ``profiles.jsonl``."""
    folder = tmp_path_factory.mktemp("newsroom")
    profiles = folder / "profiles.jsonl"
    write_newsroom(CONFIG, folder / "raw", profiles)
    said = [json.loads(line) for line in profiles.read_text().splitlines()]
    aged = [user | {"age": 20 + row} if row % 2 else user for row, user in enumerate(said)]
    profiles.write_text("".join(f"{json.dumps(user)}\n" for user in aged))
    raw = read_mind(folder / "raw" / "train", folder / "raw" / "dev", name="newsroom")
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")])
    return folder


def added(newsroom: Path, profiles: Path, folder: Path) -> Tables:
    add_user_fields(
        newsroom / "tables", profiles, folder,
        texts=["interests"], categories=["region"], numbers=["age"], tokenizer="words",
    )  # fmt: skip
    return Tables.load(folder)


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_user_has_what_the_file_says(newsroom: Path, tmp_path: Path) -> None:
    profiles = newsroom / "profiles.jsonl"
    tables = added(newsroom, profiles, tmp_path / "out")
    said = {row["user_id"]: row for row in map(json.loads, profiles.read_text().splitlines())}
    users, words = tables.vocabulary("user_id"), tables.vocabulary("words")
    store = ItemStore.from_tables(tables, FIELDS, table="users")
    assert len(store) == len(users)
    known = set(words)
    for user, tokens, region in zip(
        users, lists(store.texts["interests"]), store.categories["region"], strict=True
    ):
        profile = said.get(user, {"interests": [], "region": "<unknown>"})
        assert tables.vocabulary("region")[region] == profile["region"]
        expected = [name if name in known else "<unknown>" for name in profile["interests"]]
        assert [words[token] for token in tokens if words[token] != ","] == expected
    assert 0.4 < len(said) / CONFIG.users < 1
    ages = tables.scalar("users", "age").tolist()
    assert [age if age == age else None for age in ages] == [
        said.get(user, {}).get("age") for user in users
    ]


def test_the_tables_stay_what_they_were(newsroom: Path, tmp_path: Path) -> None:
    before = content(newsroom / "tables")
    added(newsroom, newsroom / "profiles.jsonl", tmp_path / "out")
    assert content(newsroom / "tables") == before
    after = content(tmp_path / "out")
    changed = {name for name in before if after[name] != before[name]}
    assert "manifest.json" in changed
    assert all(name == "manifest.json" or name.startswith("unitok/users/") for name in changed)
    linked = "columns/items/title@words.values.npy"
    assert os.path.samefile(newsroom / "tables" / linked, tmp_path / "out" / linked)
    first = Tables.load(newsroom / "tables").fingerprint
    assert Tables.load(tmp_path / "out").fingerprint != first


def test_a_stock_unitok_opens_the_users(newsroom: Path, tmp_path: Path) -> None:
    unitok = pytest.importorskip("unitok")
    tables = added(newsroom, newsroom / "profiles.jsonl", tmp_path / "out")
    users = unitok.UniTok.load(str(tmp_path / "out" / "unitok" / "users"))
    store = ItemStore.from_tables(tables, FIELDS, table="users")
    assert len(users) == len(store)
    for row, tokens in enumerate(lists(store.texts["interests"])):
        assert users[row]["interests@words"] == tokens
        assert users[row]["region"] == int(store.categories["region"][row])


def test_new_users_of_new_impressions_have_said_nothing(newsroom: Path, tmp_path: Path) -> None:
    tables = added(newsroom, newsroom / "profiles.jsonl", tmp_path / "out")
    new = tmp_path / "new"
    new.mkdir()
    lines = (newsroom / "raw" / "dev" / "behaviors.tsv").read_text().splitlines()[:5]
    rows = [line.split("\t") for line in lines]
    rows[0][1] = "somebody new"
    (new / "behaviors.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")
    raw = read_mind_impressions(new, tmp_path / "out", news=newsroom / "raw" / "dev" / "news.tsv")
    new_impressions_tables(tmp_path / "out", raw, tmp_path / "impressions")
    extended = Tables.load(tmp_path / "impressions")
    before = ItemStore.from_tables(tables, FIELDS, table="users")
    after = ItemStore.from_tables(extended, FIELDS, table="users")
    assert len(after) == len(before) + 1
    assert lists(after.texts["interests"]) == [*lists(before.texts["interests"]), []]
    assert after.categories["region"].tolist() == [*before.categories["region"].tolist(), 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"user_id": "U1"\n', r":1: not JSON"),
        ('["U1"]\n', r":1: a JSON list, expected an object"),
        ('{"id": "U1"}\n', r":1: no 'user_id' here; found: id"),
        ('{"user_id": null}\n', r":1: 'user_id' is None, expected an id"),
        ("", r"the file is empty"),
        ('{"user_id": "U1"}\n{"user_id": "U1"}\n', r":2: user 'U1' stands on line 1 already"),
        ('{"user_id": "U1", "interests": 7}\n', r":1: 'interests' is 7, expected a string or"),
        ('{"user_id": "U1", "age": "old"}\n', r":1: 'age' is 'old', expected a number"),
        ('{"user_id": "nobody"}\n', r"none of its 1 users is in the tables"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_left(
    newsroom: Path, tmp_path: Path, text: str, message: str
) -> None:
    profiles = tmp_path / "profiles.jsonl"
    profiles.write_text(text)
    with pytest.raises(DataError, match=message):
        added(newsroom, profiles, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["profiles.jsonl"]


def test_bytes_that_are_no_text_are_an_error_with_the_line(newsroom: Path, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.jsonl"
    profiles.write_bytes(b'{"user_id": "a"}\n{"user_id": "\xff"}\n')
    with pytest.raises(DataError, match=r"profiles\.jsonl:2: not UTF-8"):
        added(newsroom, profiles, tmp_path / "out")


def test_only_a_line_feed_ends_a_line(newsroom: Path, tmp_path: Path) -> None:
    before = Tables.load(newsroom / "tables")
    user, (one, other) = before.vocabulary("user_id")[0], before.vocabulary("words")[1:3]
    line = {"user_id": user, "interests": f"{one}\u2028{other}\x85", "region": "east", "age": 9}
    profiles = tmp_path / "profiles.jsonl"
    text = json.dumps(line, ensure_ascii=False)
    profiles.write_text(f"\ufeff{text}\n\n", encoding="utf-8")  # a BOM, a blank line at the end
    tables = added(newsroom, profiles, tmp_path / "out")
    words = tables.vocabulary("words")
    tokens = lists(ItemStore.from_tables(tables, FIELDS, table="users").texts["interests"])[0]
    assert [words[token] for token in tokens] == [one, other]


def test_a_field_that_no_line_has_is_refused(newsroom: Path, tmp_path: Path) -> None:
    user = Tables.load(newsroom / "tables").vocabulary("user_id")[0]
    profiles = tmp_path / "profiles.jsonl"
    profiles.write_text(json.dumps({"user_id": user, "intrests": "travel", "region": "east"}))
    with pytest.raises(DataError, match="no line has 'interests'; did you mean 'intrests'"):
        added(newsroom, profiles, tmp_path / "out")


@pytest.mark.parametrize("where", [".", "..", "new"])
def test_an_output_around_or_inside_the_tables_is_refused(newsroom: Path, where: str) -> None:
    before = content(newsroom)
    with pytest.raises(DataError, match="equals, contains or is inside --tables"):
        added(newsroom, newsroom / "profiles.jsonl", newsroom / "tables" / where)
    assert content(newsroom) == before


def test_a_folder_that_holds_something_else_is_never_replaced(
    newsroom: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="exists and holds no tables"):
        added(newsroom, newsroom / "profiles.jsonl", tmp_path)
    assert content(tmp_path) == {"letter.txt": b"dear"}


def test_finished_tables_are_kept_and_others_need_force(newsroom: Path, tmp_path: Path) -> None:
    out, profiles = tmp_path / "out", newsroom / "profiles.jsonl"
    added(newsroom, profiles, out)
    written = (out / "manifest.json").stat().st_mtime_ns
    added(newsroom, profiles, out)
    assert (out / "manifest.json").stat().st_mtime_ns == written
    other = {"texts": [], "categories": ["region"], "tokenizer": "words"}
    with pytest.raises(DataError, match=r"made with other .*user_fields.*; add --force"):
        add_user_fields(newsroom / "tables", profiles, out, **other)
    add_user_fields(newsroom / "tables", profiles, out, **other, force=True)
    assert not Tables.load(out).has("users", "interests@words")


def test_fields_added_in_two_steps_are_all_described(newsroom: Path, tmp_path: Path) -> None:
    tables, profiles = newsroom / "tables", newsroom / "profiles.jsonl"
    names = {"texts": ["interests"], "categories": ["region"], "tokenizer": "words"}
    at_once = add_user_fields(tables, profiles, tmp_path / "once", **names)
    add_user_fields(tables, profiles, tmp_path / "text", **names | {"categories": []})
    manifest = add_user_fields(
        tmp_path / "text", profiles, tmp_path / "both", **names | {"texts": []}
    )
    assert manifest["user_fields"] == at_once["user_fields"]
    assert manifest["fingerprint"] == at_once["fingerprint"]


KILLED = """
import os, sys
from pathlib import Path
import process.columns
from process.user_fields import add_user_fields
tables, profiles, output = map(Path, sys.argv[1:])
process.columns.ColumnWriter.manifest = lambda *_, **__: os._exit(9)
add_user_fields(
    tables, profiles, output, texts=["interests"], categories=["region"], tokenizer="words"
)
"""


@pytest.mark.slow
def test_a_kill_leaves_no_tables_and_the_source_whole(newsroom: Path, tmp_path: Path) -> None:
    before, output = content(newsroom), tmp_path / "out"
    paths = [newsroom / "tables", newsroom / "profiles.jsonl", output]
    command = [sys.executable, "-c", KILLED, *map(str, paths)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, check=False).returncode == 9
    assert not output.exists()
    assert content(newsroom) == before
    added(newsroom, newsroom / "profiles.jsonl", output)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": [], "categories": []}, "no field named"),
        ({"texts": ["interests", "interests"]}, "each name once"),
        ({"categories": ["category"]}, "the tables have a column or vocabulary of this name"),
        ({"tokenizer": "wrods"}, "--tokenizer wrods: did you mean 'words'"),
    ],
)
def test_bad_names_are_refused(
    newsroom: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    arguments = {"texts": ["interests"], "categories": ["region"], "tokenizer": "words", **change}
    with pytest.raises(DataError, match=message):
        add_user_fields(
            newsroom / "tables", newsroom / "profiles.jsonl", tmp_path / "out", **arguments
        )
    assert not (tmp_path / "out").exists()


def test_profiles_change_nothing_of_the_newsroom(newsroom: Path, tmp_path: Path) -> None:
    write_newsroom(CONFIG, tmp_path / "raw")
    assert content(tmp_path / "raw") == content(newsroom / "raw")
