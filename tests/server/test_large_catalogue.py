"""Search by any part of a word, and the id that was meant."""

from __future__ import annotations

from legos.server.catalogue import Directory

SMALL = Directory(["a1", "a10", "b2"], ["Oak lamp", "lampshade", "desk\nlamp"])


def test_the_id_itself_comes_first_then_lines_that_begin_so_then_words() -> None:
    assert SMALL.search("a1", 3) == [0, 1]
    assert SMALL.search("LAMP", 3) == [1, 0, 2]
    assert SMALL.search("lamp oak", 3) == [0]
    assert SMALL.search("", 2) == [0, 1]
    assert SMALL.search("k la", 3) == [0, 2]
    assert SMALL.search("nothing", 3) == []


def test_titles_that_begin_so_come_before_titles_with_such_a_word() -> None:
    titles = ["My star", "Starry night", "The Star Wars story", "Restart", "Star Wars", "starboard"]
    films = Directory([f"m{number}" for number in range(6)], titles)
    assert films.search("star", 6) == [1, 4, 5, 0, 2, 3]
    assert films.search("Star w", 2) == [4, 2]
    assert films.search("star", 1) == [1]


def test_a_line_is_found_once_and_no_match_spans_two_lines() -> None:
    twice = Directory(["x"], ["tea tea tea"])
    assert twice.search("tea", 5) == [0]
    assert SMALL.search("lampa10", 5) == []


def test_case_folding_may_change_lengths() -> None:
    german = Directory(["1", "2", "3"], ["STRAẞE", "Gießkanne", "Maß"])
    assert [german.search(word, 3) for word in ("strasse", "GIESSKANNE", "mass")] == [[0], [1], [2]]


def test_typos_of_a_large_catalogue_are_found_by_beginning_and_by_end() -> None:
    large = Directory([f"user-{number}" for number in range(50_000)])
    assert "user-4711" in large.nearest("user-47111")
    assert "user-31415" in large.nearest("usr-31415")
    assert large.nearest("完全") == []
