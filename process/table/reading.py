"""What was read of the files, and what is found out about it on the way to tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from process.table.events import Events
from process.table.options import Options
from process.table.rows import Rows


@dataclass
class Reading:
    """Items, events and users as read; the rest grows.

    Attributes:
        items, users: their rows; users None where there is no file of them.
        events: those that still count.
        options: what the user chooses.
        rule: of the split.
        kinds: kind of event -> how many, and what each weighs.
        notes: sentences for the user.
        oddities: counts.
        asked_again: valid asks for clicks that train holds, too.
    """

    items: Rows
    events: Events
    users: Rows | None
    options: Options
    rule: str
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    oddities: dict[str, int] = field(default_factory=dict)
    asked_again: bool = False

    @property
    def has_lists(self) -> bool:
        """Whether events say what was shown and what was clicked."""
        return self.events.list is not None

    @property
    def label(self) -> str:
        """What errors call the events."""
        return next(iter(self.events.roles))

    def column(self, role: str) -> str:
        """The column of the events that has a role."""
        return next(iter(self.events.roles.values())).get(role, role)
