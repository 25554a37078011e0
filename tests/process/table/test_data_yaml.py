"""The data YAML of own tables: what a language model is told an item is."""

from __future__ import annotations

from typing import Any

import pytest

from process.table.data_yaml import thing


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"source_columns": {"title": "movie_title"}}, "movie"),
        ({"settings": {"reader": {"columns": {"item": "movieId"}}}}, "movie"),
        ({"settings": {"reader": {"origin": {"layout": "movielens-1m"}}}}, "movie"),
        ({"settings": {"reader": {"origin": {"layout": "steam"}}}}, "game"),
        ({"layout": "ebnerd"}, "news article"),
        ({"settings": {"reader": {"columns": {"item": "sku"}, "origin": None}}}, "product"),
        ({"settings": {"reader": {"columns": {"item": "bookingId"}}}}, "item"),  # no book
        ({"source_columns": {"user_id": "movie_fan"}}, "item"),  # that is the user
        ({}, "item"),
    ],
)
def test_names_of_the_source_tell_what_an_item_is(manifest: dict[str, Any], expected: str) -> None:
    assert thing({"layout": "own", "settings": {"reader": {}}, **manifest}) == expected
