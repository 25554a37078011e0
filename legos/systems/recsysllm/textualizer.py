"""From rows of tables to units: features of a user, events of the past, free text.

RecSysLLM, section 3.1 leaves the format open. Names of features, separators and words between are
plain; values of features and items are entities. Two entities never touch: a plain separator
stands between them, so that no other pair of entities could be read out of their tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from legos.errors import DataError
from legos.systems.recsysllm.units import NEVER_DROPPED, Unit


@dataclass(frozen=True)
class Textualizer:
    """Writes units.

    Attributes:
        separator: between entities, such as events.
        feature_separator: after a feature's name.
        feature_end: after a feature's value.
    """

    separator: str = ","
    feature_separator: str = ":"
    feature_end: str = "."

    def features(self, row: Mapping[str, str | tuple[str, str, int]]) -> list[Unit]:
        """``name: value.`` for each feature of a user or item.

        Args:
            row: by name, a plain text, or an entity as (text, type, key); empty texts are left out.
        """
        units: list[Unit] = []
        for name, value in row.items():
            text, kind, key = value if isinstance(value, tuple) else (value, "", -1)
            if not text.strip():
                continue
            units.append(Unit(name + self.feature_separator, space=bool(units)))
            units.append(entity(text, kind, key) if kind else plain(text))
            units.append(Unit(self.feature_end, space=False))
        return units

    def events(self, events: Sequence[tuple[str, str, int]]) -> list[Unit]:
        """Entities of a past in order, each followed by a separator that is dropped with it.

        Args:
            events: (text, type, key), the oldest first.
        """
        units: list[Unit] = []
        for number, (text, kind, key) in enumerate(events):
            units.append(replace(entity(text, kind, key), event=number))
            if number < len(events) - 1:
                units.append(Unit(self.separator, space=False, event=number))
        return units

    def document(self, parts: Iterable[Sequence[Unit]]) -> list[Unit]:
        """Parts one after the other; a separator is put between entities that would touch.

        The first unit has no blank before it.
        """
        units: list[Unit] = []
        for unit in (unit for part in parts for unit in part):
            if units and units[-1].kind == unit.kind == "entity":
                units.append(Unit(self.separator, space=False, event=units[-1].event))
            units.append(unit)
        if units:
            units[0] = replace(units[0], space=False)
        return units


def plain(text: str, *, space: bool = True) -> Unit:
    """Words; blanks at both ends go.

    Raises:
        DataError: nothing is left.
    """
    if not text.strip():
        raise DataError("a plain unit without text")
    return Unit(text.strip(), space=space)


def entity(text: str, entity_type: str, key: int = -1, *, space: bool = True) -> Unit:
    """An entity; blanks at both ends go, runs of blanks inside become one.

    Raises:
        DataError: nothing is left.
    """
    clean = " ".join(text.split())
    if not clean:
        raise DataError(f"{entity_type} {key}: an entity without text")
    return Unit(clean, "entity", entity_type, key, space, NEVER_DROPPED)
