"""The shop that other tests are made of has what they count on."""

from __future__ import annotations

import pytest

from tests.shop import LANGUAGES, make_shop


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_shop_has_unknown_unclicked_and_repeated_items(language: str) -> None:
    shop = make_shop(language)
    known, clicked = set(shop.items["sku"]), set(shop.events["sku"])
    assert (len(known), len(shop.events)) == (800, 12_000)
    assert known - clicked == set(shop.unclicked)
    assert len(shop.unclicked) == 40
    assert clicked - known == set(shop.unknown)
    assert len(shop.unknown) == 5
    assert set(shop.events["event"]) == {"view", "cart", "purchase"}
    assert shop.events.duplicated(["customer_id", "sku"]).mean() > 0.2
    assert (shop.events["ts"] % 1000 != 0).mean() > 0.9  # milliseconds


def test_a_shop_is_the_same_in_every_language_but_for_its_words() -> None:
    one, other = make_shop("en"), make_shop("zh")
    assert one.events.equals(other.events)
    assert one.items["sku"].equals(other.items["sku"])
    assert not one.items["title"].equals(other.items["title"])
