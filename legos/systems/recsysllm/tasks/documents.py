"""Histories as documents of sentences, for training with blanks.

RecSysLLM, section 3.1: what is known of a user, what they chose in order, and of the newest of
these events what the item is, how many stars it got and what was written about it. Nothing of a
held-out pair is told: windows hold training events, and reviews are those of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from legos.systems.recsysllm.catalogue import Catalogue
from legos.systems.recsysllm.settings import DocumentSettings
from legos.systems.recsysllm.tasks.events import Sequences
from legos.systems.recsysllm.tasks.review_tasks import ReviewRows
from legos.systems.recsysllm.units import Unit, document_of, plain


class HistoryWriter:
    """Writes histories as sentences.

    Args:
        reviews: None where there are none.
        settings: what is told of an event.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        sequences: Sequences,
        reviews: ReviewRows | None,
        settings: DocumentSettings,
    ) -> None:
        self._catalogue, self._sequences = catalogue, sequences
        self._reviews, self._settings = reviews, settings
        self._keys, self._rows = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        if reviews is not None and settings.reviews != "nothing":
            rows = reviews.of("train")
            pairs = reviews.users[rows] * sequences.num_items + reviews.items[rows]
            self._keys, order = pairs.sort()
            self._rows = rows[order]

    def document(self, row: int, events: Sequence[int], *, arrow: bool) -> list[Unit]:
        """The events of a user by number, oldest first, as a document.

        Args:
            row: of the sequences.
            events: their numbers in it.
            arrow: an arrow and not a comma between items.
        """
        catalogue, user = self._catalogue, int(self._sequences.users[row])
        items: list[int] = self._sequences.items.row(row)[events].tolist()
        name, alias = catalogue.user(user), catalogue.user_name(user)
        called = [] if alias == name else [*name, plain("is called"), *alias, _stop()]
        parts = [
            called,
            catalogue.about_user(user, name),
            [*name, plain("chose, in this order,"), *catalogue.history(items, arrow=arrow)],
            [_stop()],
        ]
        first = max(0, len(items) - self._settings.detailed)
        reviews = self._reviews_of(user, items[first:])
        for event, (item, review) in enumerate(zip(items[first:], reviews, strict=True), first):
            if self._settings.attributes:
                parts.append(catalogue.about_item(item, event=event))
            parts.append(self._told(name, item, review, event))
        return document_of(parts)

    def _reviews_of(self, user: int, items: Sequence[int]) -> list[int]:
        """The training review of each pair, -1 without one."""
        if not len(self._keys):
            return [-1] * len(items)
        wanted = user * self._sequences.num_items + torch.tensor(items, dtype=torch.int64)
        at = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        found: list[int] = self._rows[at].where(self._keys[at] == wanted, -1).tolist()
        return found

    def _told(self, name: list[Unit], item: int, review: int, event: int) -> list[Unit]:
        """Sentences about the rating and review of an item."""
        if review < 0 or self._reviews is None:
            return []
        stars = float(self._reviews.ratings[review])
        headline, body = self._reviews.headlines[review].strip(), self._reviews.bodies[review]
        subject = self._catalogue.item(item, event=event)
        units: list[Unit] = []
        if stars == stars:  # known
            units += [*_of(name, event), Unit("gave", event=event), *subject]
            units.append(Unit(f"{round(stars)} of 5 stars.", event=event))
        if self._settings.reviews != "texts":
            return units
        for what, verb, text in (
            ("headline", "was", headline),
            ("review", "said", self._cut(body)),
        ):
            if text:
                about = [] if units else [Unit("about", event=event), *subject]
                units += [Unit(f"The {what}", event=event), *about]
                units += [Unit(f"{verb}:", event=event), Unit(_ended(text), event=event)]
        return units

    def _cut(self, body: str) -> str:
        return " ".join(body.split()[: self._settings.max_review_words])


def _of(units: Sequence[Unit], event: int) -> list[Unit]:
    """Units that are dropped with an event."""
    return [Unit(u.text, u.entity_type, u.key, u.space, event) for u in units]


def _stop() -> Unit:
    return plain(".", space=False)


def _ended(text: str) -> str:
    """A text that ends a sentence."""
    return text if text[-1] in ".!?…。！？" else f"{text}."
