"""The same small MovieLens in every layout that it was published in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

MOVIES = {  # id -> title as it is written, genres
    1: ("Toy Story (1995)", ["Animation", "Children's", "Comedy"]),
    2: ("Matrix, The (1999)", ["Action", "Sci-Fi"]),
    3: ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", ["Adventure"]),
    4: ("unknown", []),
    5: ("Armée des ombres, L' (1969)", ["Drama", "War"]),
    6: ("Seven, Eight (2001)", ["Film-Noir"]),
    **{n: (f"Story of Number {n} ({1950 + n})", ["Drama"]) for n in range(7, 25)},
}
TITLES = {
    1: ("Toy Story", 1995.0),
    2: ("The Matrix", 1999.0),
    3: ("The City of Lost Children (La Cité des enfants perdus)", 1995.0),
    4: ("unknown", None),
    5: ("L'Armée des ombres", 1969.0),
    6: ("Seven, Eight", 2001.0),
}
FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip
USERS = 30


def ratings() -> list[tuple[int, int, int, int]]:
    """User, movie, stars and seconds: six different movies of each user."""
    draw = np.random.default_rng(5)
    rows = []
    for user in range(1, USERS + 1):
        for place, movie in enumerate(draw.permutation(list(MOVIES))[:6].tolist()):
            rows.append((user, movie, int(draw.integers(1, 6)), 880_000_000 + 1000 * place + user))
    return rows


def folder_100k(folder: Path) -> Path:
    """``u.data``, ``u.item``, ``u.user``."""
    _write(folder / "u.data", ("\t".join(map(str, row)) for row in ratings()))
    _write(
        folder / "u.item",
        (
            "|".join(
                [str(movie), title, "01-Jan-1995", "", "http://us.imdb.com/M/title-exact?x"]
                + [str(int(flag in genres or (flag == "unknown" and not genres))) for flag in FLAGS]
            )
            for movie, (title, genres) in MOVIES.items()
        ),
        "latin-1",
    )
    _write(folder / "u.user", (f"{n}|{20 + n}|{'MF'[n % 2]}|writer|8571{n % 10}" for n in _users()))
    return folder


def folder_1m(folder: Path) -> Path:
    """``ratings.dat``, ``movies.dat``, ``users.dat``."""
    _dat(folder, "latin-1")
    _write(folder / "users.dat", (f"{n}::{'MF'[n % 2]}::25::20::4806{n % 10}" for n in _users()))
    return folder


def folder_10m(folder: Path) -> Path:
    """``ratings.dat``, ``movies.dat``, ``tags.dat``."""
    _dat(folder, "utf-8")
    _write(folder / "tags.dat", ("::".join(map(str, row)) for row in tags()))
    return folder


def folder_csv(folder: Path) -> Path:
    """``ratings.csv``, ``movies.csv``, ``tags.csv``, with a quoted title and tag."""
    rows = (f"{user},{movie},{stars}.0,{time}" for user, movie, stars, time in ratings())
    _write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *rows])
    movies = (
        f"{movie},{_quoted(title)},{'|'.join(genres) or '(no genres listed)'}"
        for movie, (title, genres) in MOVIES.items()
    )
    _write(folder / "movies.csv", ["movieId,title,genres", *movies])
    tagged = (f"{user},{movie},{_quoted(tag)},{time}" for user, movie, tag, time in tags())
    _write(folder / "tags.csv", ["userId,movieId,tag,timestamp", *tagged])
    return folder


def tags() -> list[tuple[int, int, str, int]]:
    """User, movie, tag and seconds."""
    return [
        (1, 2, "Dystopia", 890_000_000), (2, 2, "dystopia ", 890_000_001),
        (3, 2, "kung fu, guns", 890_000_002), (3, 2, "bullets", 890_000_003),
        (3, 5, "resistance", 890_000_004),
    ]  # fmt: skip


LAYOUTS = {"100k": folder_100k, "1m": folder_1m, "10m": folder_10m, "csv": folder_csv}


def _dat(folder: Path, encoding: str) -> None:
    _write(folder / "ratings.dat", ("::".join(map(str, row)) for row in ratings()))
    movies = (
        f"{movie}::{title}::{'|'.join(genres) or '(no genres listed)'}"
        for movie, (title, genres) in MOVIES.items()
    )
    _write(folder / "movies.dat", movies, encoding)


def _users() -> range:
    return range(1, USERS + 1)


def _quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def _write(path: Path, lines: object, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))  # type: ignore[arg-type]
