"""What the user asks of a layout."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """What the user asks of a layout.

    Attributes:
        years: ``split``: a year at the end of a title becomes a field; ``keep``: it stays there.
        tags: most frequent tags kept of an item.
        reviews: read what users wrote, too.
        tips: Yelp's tips are events, too.
        longest: items that a stored history keeps; None: as many as the layout says.
    """

    years: str = "split"
    tags: int = 0
    reviews: bool = False
    tips: bool = False
    longest: int | None = None
