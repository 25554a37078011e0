"""MovieLens of every year becomes the same tables, and what is wrong in a file is said by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from process.columns import ColumnReader
from process.published.movielens import title_and_year
from tests.process.published.movielens_files import (
    LAYOUTS,
    MOVIES,
    TITLES,
    folder_1m,
    folder_10m,
    folder_100k,
    folder_csv,
    ratings,
)
from tests.process.published.published import build, refused, run_printed, texts
from tests.process.table.own import clicks

SPLITS = ("train", "valid", "test", "test_uniform")


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ColumnReader]:
    """Of every layout."""
    found = {}
    for name, write in LAYOUTS.items():
        place = tmp_path_factory.mktemp(name)
        found[name] = build(write(place / "raw"), place / "tables")
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_clicks_titles_and_genres(
    layout: str, tables: dict[str, ColumnReader]
) -> None:
    own, other = tables[layout], tables["csv"]
    for split in SPLITS:
        assert clicks(own, split) == clicks(other, split)
    assert texts(own, "title") == texts(other, "title")
    assert texts(own, "genres") == {
        str(movie): ", ".join(genres) for movie, (_, genres) in MOVIES.items()
    }
    years = dict(zip(own.vocabulary("item_id"), own.scalar("items", "year"), strict=True))
    for movie, (title, year) in TITLES.items():
        assert texts(own, "title")[str(movie)] == title
        assert np.isnan(years[str(movie)]) if year is None else years[str(movie)] == year


def test_the_last_rating_by_time_is_the_test(tables: dict[str, ColumnReader]) -> None:
    last = {str(user): str(movie) for user, movie, _, _ in sorted(ratings(), key=lambda r: r[3])}
    assert {user: click for user, _, click, _ in clicks(tables["100k"], "test")} == last


def test_users_have_what_the_layout_says_of_them(tables: dict[str, ColumnReader]) -> None:
    kinds = {name: field["kind"] for name, field in tables["100k"].manifest["user_fields"].items()}
    assert kinds == {
        "age": "number", "gender": "category", "occupation": "category", "zip_code": "category",
    }  # fmt: skip
    users, ages = tables["100k"].vocabulary("user_id"), tables["100k"].scalar("users", "age")
    assert dict(zip(users, ages.tolist(), strict=True))["7"] == 27.0
    entries = tables["1m"].vocabulary("age"), tables["1m"].vocabulary("occupation")
    assert "25-34" in entries[0]
    assert "writer" in entries[1]
    assert "user_fields" not in tables["csv"].manifest


@pytest.mark.slow
@pytest.mark.parametrize("write", [folder_csv, folder_10m])
def test_tags_are_those_that_most_users_gave(
    write: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "raw")  # type: ignore[operator]
    two = texts(build(folder, tmp_path / "two", "--tags", "2"), "tags")
    assert (two["2"], two["5"], two["1"]) == ("dystopia, bullets", "resistance", "")
    manifest = build(folder, tmp_path / "one", "--tags", "1").manifest
    assert any(Path(source["path"]).name.startswith("tags.") for source in manifest["sources"])
    told = refused(folder, tmp_path / "one", capsys, "--tags", "2")
    assert "made with other" in told


def test_years_may_stay_in_titles(tmp_path: Path) -> None:
    own = build(folder_100k(tmp_path / "raw"), tmp_path / "tables", "--years", "keep")
    assert texts(own, "title")["2"] == "The Matrix (1999)"
    assert texts(own, "title")["4"] == "unknown"
    assert "year" not in own.manifest["fields"]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Postino, Il (The Postman) (1994)", ("Il Postino (The Postman)", "1994")),
        ("Babylon 5", ("Babylon 5", "")),
        ("Fawlty Towers (1975-1979)", ("Fawlty Towers", "1975")),
        ("Big Bang Theory, The (2007-) ", ("The Big Bang Theory", "2007")),
        ("Good, the Bad and the Ugly, The (1966)", ("The Good, the Bad and the Ugly", "1966")),
        ("2001: A Space Odyssey (1968)", ("2001: A Space Odyssey", "1968")),
        ("Die Hard (1988)", ("Die Hard", "1988")),
        ("", ("", "")),
    ],
)
def test_titles_are_put_in_the_order_of_words(raw: str, expected: tuple[str, str]) -> None:
    assert title_and_year(raw) == expected


@pytest.mark.slow
def test_min_rating_keeps_that_rating_and_rating_above_does_not(tmp_path: Path) -> None:
    folder = folder_1m(tmp_path / "raw")
    kept = {(str(user), str(movie)) for user, movie, stars, _ in ratings() if stars >= 3}
    for words in (["--min-rating", "3"], ["--rating-above", "2"]):
        own = build(folder, tmp_path / words[0], *words)
        found = {
            (user, item)
            for split in ("train", "valid", "test")
            for user, history, click, _ in clicks(own, split)
            for item in [*history, click]
        }
        assert found <= kept
        assert len(found) > 0.8 * len(kept)  # users of one or two are in no impression
        assert sum(n for what, n in own.manifest["oddities"].items() if "interactions rated" in what
                   ) == len(ratings()) - len(kept)  # fmt: skip


def test_a_bad_line_is_left_out_with_its_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_1m(tmp_path / "raw")
    with (folder / "ratings.dat").open("a") as file:
        file.write("1::2::five::880000000\n\n7::8::3\n")
    with (folder / "movies.dat").open("ab") as file:
        file.write(b"77::A title\n")
    own = build(folder, tmp_path / "tables", "--max-bad", "0.1")
    told = capsys.readouterr().err
    line = len(ratings()) + 1
    assert f"ratings.dat:{line}: 'rating' is 'five', expected a number" in told
    assert f"ratings.dat:{line + 2}: 3 columns separated by '::', expected 4" in told
    assert f"movies.dat:{len(MOVIES) + 1}: 2 columns separated by '::', expected 3" in told
    assert own.manifest["oddities"]["lines left out: not 4 columns (events)"] == 1
    folder_1m(tmp_path / "other")
    (tmp_path / "other/ratings.dat").write_bytes((folder / "ratings.dat").read_bytes())
    told = refused(tmp_path / "other", tmp_path / "none", capsys)
    assert "2 of 182 lines cannot be read (1.10%, allowed are 1.00%" in told


def test_a_folder_that_is_none_and_a_file_that_lacks_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such folder" in refused(tmp_path / "none", tmp_path / "o", capsys)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("x")
    told = refused(empty, tmp_path / "o", capsys)
    assert "not a known data set" in told
    assert "holds: notes.txt" in told
    assert "a file; unpack it" in refused(empty / "notes.txt", tmp_path / "o", capsys)
    folder = folder_100k(tmp_path / "raw")
    (folder / "u.item").unlink()
    assert "u.item: no such file" in refused(folder, tmp_path / "o", capsys)
    other = folder_csv(tmp_path / "other")
    (other / "movies.csv").write_text("movieId,name\n1,x\n")
    assert "movies.csv:1: columns movieId, name; MovieLens has movieId, title, genres" in refused(
        other, tmp_path / "o", capsys
    )


@pytest.mark.slow
def test_the_printed_command_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build(folder_100k(Path("raw")), Path("data/ml-100k"))
    run_printed(Path("data/ml-100k"), capsys, "--exp.train.epochs", "1", "--exp.report", "false")
    assert list(tmp_path.glob("runs/ml-100k/*/*/results.json"))
