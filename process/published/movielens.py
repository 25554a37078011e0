"""MovieLens of GroupLens (Harper and Konstan, TiiS 2015), in all layouts it was published in.

::

    100K    u.data (TAB), u.item (|, Latin-1, 19 genre flags), u.user (|)
    1M      ratings.dat, movies.dat, users.dat (::, Latin-1, codes of age and occupation)
    10M     ratings.dat, movies.dat, tags.dat (::, UTF-8)
    20M, 25M, 32M, latest    ratings.csv, movies.csv, tags.csv (CSV)

Columns and codes are those of the README files of the data sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from legos.errors import DataError
from process.bad_lines import BadLines
from process.published.choices import Choices
from process.published.layout import Columns, Derived, Layout
from process.published.lines import Number, SeparatedLines
from process.table.sources import Source, open_source
from process.table.values import each
from process.tsv import find_file, require_file

RATING: Mapping[str, Number] = {
    "user_id": "int64", "movie_id": "int64", "rating": "float64", "timestamp": "int64",
}  # fmt: skip
RATING_CSV: Mapping[str, Number] = {
    "userId": "int64", "movieId": "int64", "rating": "float64", "timestamp": "int64",
}  # fmt: skip
FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
NO_GENRES = "(no genres listed)"
AGES = {
    "1": "under 18", "18": "18-24", "25": "25-34", "35": "35-44", "45": "45-49", "50": "50-55",
    "56": "56+",
}  # fmt: skip
OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student",
    "customer service", "doctor/health care", "executive/managerial", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales/marketing", "scientist",
    "self-employed", "technician/engineer", "tradesman/craftsman", "unemployed", "writer",
)  # fmt: skip
_ARTICLES = (
    "The", "A", "An", "Le", "La", "Les", "L'", "Un", "Une", "El", "Los", "Las", "Una", "Il", "Lo",
    "I", "Gli", "Der", "Die", "Das", "Ein", "Eine", "Den", "Det", "De", "Het", "Een", "O", "Os",
)  # fmt: skip
_MOVED = re.compile(rf"(^|\()([^()]+), ({'|'.join(_ARTICLES)})(?= ?\(|\)|$)")
_YEAR = re.compile(
    r"\s*\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$"
)  # (2006-2007) of a series, with a dash


def find(folder: Path, choices: Choices) -> Layout | None:
    """The layout of a folder; None: it has no files of MovieLens.

    Raises:
        DataError: a file is missing beside the others, or has other columns.
    """
    if find_file(folder, "u.data"):
        return _of_100k(folder, choices)
    if find_file(folder, "ratings.dat"):
        return _of_dat(folder, choices)
    if find_file(folder, "ratings.csv") and find_file(folder, "movies.csv"):
        return _of_csv(folder, choices)
    return None


def title_and_year(text: str) -> tuple[str, str]:
    """``The Matrix`` and ``1999`` of ``Matrix, The (1999)``; no year: ""."""
    found = _YEAR.search(text)
    title = text[: found.start()] if found else text
    return _MOVED.sub(_with_article, title.strip()), found[1] if found else ""


def _with_article(found: re.Match[str]) -> str:
    begin, title, article = found.groups()
    return f"{begin}{article}{'' if article.endswith(chr(39)) else ' '}{title}"


class _Movies:
    """Makes title, year, genres and tags of the columns of a file of movies.

    Args:
        choices: what becomes of years, and how many tags.
        key: column of the ids.
        title: column of the titles.
        tags: file of tags; None: there is none.
    """

    def __init__(self, choices: Choices, key: str, title: str, tags: Source | None = None) -> None:
        self._choices, self._key, self._title = choices, key, title
        self._tags = tags if choices.tags else None
        self._of_movie: dict[str, str] | None = None
        self.names = [key, "title", *["year"] * (choices.years == "split"), "genres"]
        self.names += ["tags"] * (self._tags is not None)

    def source(self, movies: Source) -> Source:
        """The movies with the columns that are made."""
        further = [self._tags.path] if self._tags is not None and self._tags.path else []
        return Derived(movies, self.names, self, further=further)

    def asked(self) -> dict[str, list[str]]:
        """Kinds of the fields."""
        texts = ["title", "genres", *["tags"] * ("tags" in self.names)]
        return {"text": texts, "number": ["year"] * ("year" in self.names)}

    def __call__(self, columns: Columns, bad: BadLines) -> dict[str, np.ndarray]:
        pairs = [title_and_year(text) for text in columns[self._title].tolist()]
        made = {"title": _strings(title for title, _ in pairs)}
        if self._choices.years == "split":
            made["year"] = _strings(year for _, year in pairs)
        else:
            made["title"] = _strings(f"{t} ({year})" if year else t for t, year in pairs)
        if "genres" in columns:
            made["genres"] = each(columns["genres"], _listed)
        else:
            made["genres"] = _of_flags(columns)
        if self._tags is not None:
            if self._of_movie is None:
                self._of_movie = _most_frequent(self._tags, self._choices.tags, bad)
            known = self._of_movie
            made["tags"] = each(columns[self._key], lambda movie: known.get(movie, ""))
        return made


def _strings(values: object) -> np.ndarray:
    return np.array(list(values), dtype=object)  # type: ignore[call-overload]


def _listed(genres: str) -> str:
    return "" if genres.strip() == NO_GENRES else ", ".join(genres.strip().split("|"))


def _of_flags(columns: Columns) -> np.ndarray:
    names = FLAGS[1:]
    flags = np.column_stack([columns[name] == "1" for name in names])
    return _strings(
        ", ".join(name for name, has in zip(names, row, strict=True) if has)
        for row in flags.tolist()
    )


def _most_frequent(tags: Source, most: int, bad: BadLines) -> dict[str, str]:
    """Movie -> the tags that most users gave it, in lower case."""
    key, tag = (n for n in tags.names if n in ("movieId", "movie_id", "tag"))
    counts: pd.Series[int] | None = None
    for block in tags.blocks([key, tag], bad):
        movies = each(block.columns[key], str)
        words = each(block.columns[tag], lambda text: text.strip().lower())
        found = pd.Series(1, index=pd.MultiIndex.from_arrays([movies, words]))
        found = found.groupby(level=[0, 1]).sum()
        counts = found if counts is None else counts.add(found, fill_value=0)
    if counts is None:
        return {}
    table = counts.rename("count").rename_axis(["movie", "tag"]).reset_index()
    table = table[table["tag"] != ""].sort_values(
        ["count", "tag"], ascending=[False, True], kind="stable"
    )
    kept = table.groupby("movie", sort=False).head(most)
    joined = kept.groupby("movie", sort=False)["tag"].agg(", ".join)
    return {str(movie): words for movie, words in joined.items()}


def _of_100k(folder: Path, choices: Choices) -> Layout:
    dates = ("release_date", "video_release_date", "imdb_url")
    movies = SeparatedLines(
        require_file(folder, "u.item"), ["movie_id", "movie title", *dates, *FLAGS],
        separator="|", encoding="latin-1",
    )  # fmt: skip
    users = find_file(folder, "u.user")
    profile = ["user_id", "age", "gender", "occupation", "zip_code"]
    made = _Movies(choices, "movie_id", "movie title")
    ratings = require_file(folder, "u.data")
    return Layout(
        name="movielens-100k",
        items=[made.source(movies)],
        events=[SeparatedLines(ratings, list(RATING), separator="\t", numbers=RATING)],
        users=[SeparatedLines(users, profile, separator="|", encoding="latin-1")] if users else [],
        asked=_with_users(made, "gender", "occupation", "zip_code", age="number")
        if users
        else made.asked(),
    )


def _of_dat(folder: Path, choices: Choices) -> Layout:
    users, tags = find_file(folder, "users.dat"), find_file(folder, "tags.dat")
    encoding = "latin-1" if users else "utf-8"
    movies = SeparatedLines(
        require_file(folder, "movies.dat"), ["movie_id", "movie title", "genres"],
        separator="::", encoding=encoding,
    )  # fmt: skip
    tagged = None
    if tags is not None:
        tagged = SeparatedLines(tags, ["user_id", "movie_id", "tag", "timestamp"], separator="::")
    made = _Movies(choices, "movie_id", "movie title", tagged)
    ratings = require_file(folder, "ratings.dat")
    profile = ["user_id", "gender", "age", "occupation", "zip_code"]
    return Layout(
        name="movielens-1m" if users else "movielens-10m",
        items=[made.source(movies)],
        events=[SeparatedLines(ratings, list(RATING), separator="::", numbers=RATING)],
        users=[Derived(SeparatedLines(users, profile, separator="::"), profile, _decoded)]
        if users
        else [],
        asked=_with_users(made, "gender", "age", "occupation", "zip_code")
        if users
        else made.asked(),
    )


def _of_csv(folder: Path, choices: Choices) -> Layout:
    ratings, tags = require_file(folder, "ratings.csv"), find_file(folder, "tags.csv")
    movies = _csv(require_file(folder, "movies.csv"), "items", ["movieId", "title", "genres"])
    opened = _csv(ratings, "events", list(RATING_CSV))
    tagged = None
    if tags is not None and choices.tags:
        tagged = _csv(tags, "tags", ["userId", "movieId", "tag", "timestamp"])
    made = _Movies(choices, "movieId", "title", tagged)
    lines = SeparatedLines(ratings, opened.names, separator=",", header=True, numbers=RATING_CSV)
    return Layout("movielens-csv", [made.source(movies)], [lines], asked=made.asked())


def _csv(path: Path, what: str, expected: list[str]) -> Source:
    source = open_source(path, what, encoding="utf-8", quotes=True)
    if source.names != expected:
        raise DataError(
            f"{path}:1: columns {', '.join(source.names)}; MovieLens has {', '.join(expected)}"
        )
    return source


def _with_users(made: _Movies, *categories: str, **kinds: str) -> dict[str, list[str]]:
    asked = made.asked()
    for name, kind in kinds.items():
        asked[kind] = [*asked.get(kind, []), name]
    return asked | {"category": list(categories)}


def _decoded(columns: Columns, bad: BadLines) -> dict[str, np.ndarray]:
    """Ages and occupations in words; a code that the README does not have stays."""
    jobs = {str(code): name for code, name in enumerate(OCCUPATIONS)}
    return {
        "age": each(columns["age"], lambda code: AGES.get(code, code)),
        "occupation": each(columns["occupation"], lambda code: jobs.get(code, code)),
    }
