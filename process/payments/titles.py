"""What the entities of the payment app are called: searches, visits and bills of twelve topics."""

from __future__ import annotations

from itertools import product

import numpy as np

KINDS = ("search", "visit", "bill")
OBJECTS = {
    "travel": "flight, hotel, train ticket, suitcase, car rental, visa, cruise, hostel",
    "food": "noodles, hot pot, coffee, milk tea, bakery, breakfast, barbecue, salad",
    "health": "pharmacy, dentist, check-up, vitamins, eye test, vaccination, massage, gym",
    "transport": "bus card, metro ride, shared bike, taxi, parking, petrol, toll, driving school",
    "home": "rent, electricity, water, gas, cleaning, furniture, repairs, broadband",
    "phone": "top-up, data plan, handset, phone case, screen repair, roaming, earphones, charger",
    "school": "tuition, textbooks, piano lessons, exam, summer camp, day care, languages, art",
    "money": "savings, fund, insurance, credit score, loan, transfer, pension, gold",
    "fashion": "shoes, coat, dress, jeans, jewellery, handbag, shirt, hairdresser",
    "games": "game coins, console, puzzle, board game, esports ticket, skin, card pack, arcade",
    "pets": "cat food, dog food, vet, pet hotel, grooming, aquarium, leash, pet toys",
    "garden": "seeds, flowers, plant pots, fertiliser, lawn mower, garden tools, compost, roses",
}
_FORMS = {
    "search": "cheap {}, best {}, {} near me, {} tonight, how to find {}, {} discount, {} reviews",
    "visit": "{} offers by {}, {} page of {}, {} service of {}, {} guide by {}, {} shop {}",
    "bill": "{} paid to {}, {} at {}, {} with {}, monthly {} to {}, {} order from {}",
}
_BRANDS = "Lanfeng, Orvik, Mirado, Tessel, Quillon, Sunwei, Dorata, Helbin, Novari, Kestrow"
TOPICS = tuple(OBJECTS)


def titles_of(topic: str, kind: str) -> list[str]:
    """All titles of a topic and kind, each once."""
    objects, forms = OBJECTS[topic].split(", "), _FORMS[kind].split(", ")
    brands = _BRANDS.split(", ") if kind != "search" else [""]
    return [form.format(*pair) for form, *pair in product(forms, objects, brands)]


def draw_titles(topics: np.ndarray, kinds: np.ndarray, generator: np.random.Generator) -> list[str]:
    """A title of its own for each item of a topic and kind, ``(N,)`` int64 each.

    There are 56 searches of a topic, and some hundred visits and bills.
    """
    left: dict[tuple[int, int], list[str]] = {}
    found = []
    for cell in zip(topics.tolist(), kinds.tolist(), strict=True):
        if cell not in left:
            every = titles_of(TOPICS[cell[0]], KINDS[cell[1]])
            left[cell] = [every[row] for row in generator.permutation(len(every))]
        found.append(left[cell].pop())
    return found
