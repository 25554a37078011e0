"""ONCE's published logs: every line is an answer, a duplicate, or counted with a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from legos.errors import ConfigError, DataError
from process.genre.importers import Log, answers_of, read_log, read_user_ids
from process.genre.scheme import load_scheme
from process.genre.store import Store

SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[4] / "shared"))
RAW = SHARED / "data/goodreads-once/raw"
with_logs = pytest.mark.skipif(not RAW.is_dir(), reason=f"{RAW}: not at hand")


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def accounted(log: Log) -> bool:
    return log.rows == len(log.values) + log.duplicates + log.bad.total()


def test_summaries_the_last_good_answer_counts(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        "1\t[description] First.",
        "2\t[description] Two is a book.",
        "3\t[description] Three.",
        "2\t[description] Two is about two.",
        "1\t[description]  Second   try. ",
        "3\t[description] Three is a book.",
        "4\t[description] Four is a book.",
        "no tab",
        "5\t[description] ",
        "6\t[newtitle] Of another log",
        "",
        "7\tWithout a mark",
    )
    log = read_log(path, load_scheme("book_description"))
    assert {key: value["description"] for key, value in log.values.items()} == {
        "1": "Second try.", "2": "Two is about two.", "3": "Three.", "4": "Four is a book.",
        "7": "Without a mark",
    }  # fmt: skip
    assert (log.rows, log.duplicates, log.retries) == (12, 3, 3)
    assert log.bad == {
        "no id and TAB": 1, "empty answer": 1, "blank line": 1,
        "mark [newtitle] in place of [description]": 1,
    }  # fmt: skip
    assert log.bad_lines == [8, 9, 10, 11]
    assert accounted(log)


def test_profiles_in_every_form(tmp_path: Path) -> None:
    path = write(
        tmp_path / "log",
        json.dumps({"uid": 0, "interest": ["a", "b", "c", "d", "e", "f"]}),
        json.dumps({"uid": "1", "interest": '{"interests": ["a"]}'}),
        json.dumps({"uid": 2, "interest": 'Sure! {"interests": ["b"]} Anything else?'}),
        json.dumps({"uid": 3, "interest": "nothing at all"}),
        json.dumps({"uid": 4, "interest": []}),
        json.dumps({"uid": 5, "intrest": ["a"]}),
        json.dumps({"interest": ["a"]}),
        json.dumps({"uid": 9, "interest": ["a"]}),
        '{"uid": 6, "inter',
        "[]",
    )
    users = {str(number): f"U{number}" for number in range(7)}
    log = read_log(path, load_scheme("book_profile"), users)
    assert {key: value["interests"] for key, value in log.values.items()} == {
        "U0": list("abcde"), "U1": ["a"], "U2": ["b"],
    }  # fmt: skip
    assert log.notes.total() == 1
    assert log.bad.total() == 7
    assert log.bad["the line is not JSON"] == 1
    assert log.bad["uid is in no row of --user-ids"] == 1
    assert log.bad["no uid"] == 2
    assert accounted(log)


def test_topics_and_region_in_marks(tmp_path: Path) -> None:
    marked = "[topics]\n- Sports\n2. Food & Drinks\n[region]\n- Texas\n"
    path = write(tmp_path / "log", json.dumps({"uid": 0, "interest": marked}))
    log = read_log(path, load_scheme("news_profile"))
    assert log.values["0"] == {"topics": ["Sports", "Food & Drinks"], "region": "Texas"}


REGIONS = {
    "below": "[topics]\n- food\n[region]\n- Texas\n- New York\n- Ohio",
    "optional copied": "[topics]\n- food\n[region] (optional)\n- Texas\n- New York\n- Ohio",
    "no space": "[topics]\n- food\n\n[region](optional):\n- Texas\n- New York\n- Ohio\n",
    "plural, upper case": "[TOPICS]\n(1) food\n[Regions]\n(1) Texas\n(2) New York\n(3) Ohio",
    "behind": "[topics] food\n[region]: Texas, New York, Ohio",
    "bold": "**[topics]**\n* food\n**[region]** (optional)\n* Texas\n* New York\n* Ohio",
    "remark as an entry": "[topics]\n- food\n[region]\n- (optional)\n- Texas\n- New York\n- Ohio",
    "remark in an entry": "[topics]\n- food\n[region]\n- Texas (optional)\n- New York\n- Ohio",
    "twice": "[topics]\n- food\n[region]\n- Texas\n[region]\n- New York\n- Ohio",
    "JSON": '{"topics": ["food"], "regions": ["Texas", "New York", "Ohio"]}',
    "JSON, one text": '{"topics": ["food"], "region": "Texas, New York, Ohio"}',
}


@pytest.mark.parametrize("text", REGIONS.values(), ids=REGIONS)
def test_regions_are_an_ordered_list(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log", json.dumps({"uid": 0, "interest": text}))
    whole = read_log(path, load_scheme("once_news_profile"))
    assert whole.values["0"] == {"topics": ["food"], "region": ["Texas", "New York", "Ohio"]}
    assert whole.notes.total() == 0
    one = read_log(path, load_scheme("news_profile"))
    assert one.values["0"] == {"topics": ["food"], "region": "Texas"}
    assert one.notes == {"region: N further entries left out": 1}


@pytest.mark.parametrize(
    "region",
    ["", "[region] (optional)", "[region]\n", "[region]\n- None", "[region] (optional)\n- N/A",
     "[region]\n(blank)", "[region] (leave it blank)\n", "[region]\n- Not applicable."],
)  # fmt: skip
def test_no_region_is_none(region: str, tmp_path: Path) -> None:
    text = f"[topics]\n- food\n{region}"
    path = write(tmp_path / "log", json.dumps({"uid": 0, "interest": text}))
    value = read_log(path, load_scheme("news_profile")).values["0"]
    assert value == {"topics": ["food"]}
    value = read_log(path, load_scheme("once_news_profile")).values["0"]
    assert value.get("region", []) == []


def test_a_city_with_a_comma_is_one_region(tmp_path: Path) -> None:
    text = "[topics]\n- food\n[region]\n- Washington, D.C.\n- Ohio"
    path = write(tmp_path / "log", json.dumps({"uid": 0, "interest": text}))
    value = read_log(path, load_scheme("once_news_profile")).values["0"]
    assert value["region"] == ["Washington, D.C.", "Ohio"]


def test_a_log_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bad: no id and TAB: 2"):
        read_log(write(tmp_path / "log", "a", "b"), load_scheme("news_summary"))
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "none", load_scheme("news_summary"))
    with pytest.raises(ConfigError, match="published no such log"):
        read_log(tmp_path / "log", load_scheme("history_compressor"))


@pytest.mark.slow
@with_logs
def test_the_published_descriptions() -> None:
    log = read_log(RAW / "book_summarizer.log", load_scheme("book_description"))
    assert (log.rows, len(log.values), log.duplicates, log.bad.total()) == (17925, 16833, 1092, 0)
    assert log.retries == 1414
    assert accounted(log)


@pytest.mark.slow
@with_logs
def test_the_published_profiles() -> None:
    users = read_user_ids(RAW / "user/tok.uid.dat")
    assert read_user_ids(RAW.parent / "users.tsv").items() <= users.items()
    log = read_log(RAW / "user_profiler.log", load_scheme("book_profile"), users)
    assert (log.rows, len(log.values), log.duplicates, log.bad.total()) == (18863, 18863, 0, 0)


@pytest.mark.slow
@with_logs
def test_the_published_books_are_two_rounds(tmp_path: Path) -> None:
    scheme, users = load_scheme("book_generator"), read_user_ids(RAW.parent / "users.tsv")
    with Store.open(tmp_path, scheme.name) as store:
        for number in (1, 2):
            log = read_log(RAW / f"generator_v{number}.log", scheme, users)
            assert (log.rows, len(log.values), log.bad.total()) == (1205, 1205, 0)
            store.add(answers_of(log, scheme, number=number))
        keys = [answer["key"] for answer in store.answers()]
    assert len(keys) == len(set(keys)) == 2410
    assert {key.split("#")[0] for key in keys} <= set(users.values())
