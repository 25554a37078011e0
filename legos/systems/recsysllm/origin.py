"""Where a model that is measured was trained, if that was on other tables: zero-shot transfer.

Nothing of the tables at hand is trained with. Whoever has the same id in both keeps the name that
was trained; everyone else gets one that nobody had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from legos.config.saved import known_description
from legos.data.tables import Tables
from legos.errors import CheckpointError
from legos.runs.identity import TABLES, tables_content

_USER_ID = "user_id"


@dataclass(frozen=True)
class Origin:
    """Other tables.

    Attributes:
        name: of the data set that was trained on.
        users: ids of its users, in the order of their numbers there; empty where its tables are
            not on this machine.
    """

    name: str
    users: Sequence[str] = ()

    @classmethod
    def of_run(cls, load: Path | None, tables: Tables) -> Origin | None:
        """Where the run that is loaded was trained; None: on these very tables, or untold.

        Args:
            load: a run folder, or a checkpoint in one; None: the run of the same settings.
            tables: to be measured on.
        """
        trained = None if load is None else known_description(load)
        if trained is None:
            return None
        data, content = trained.config.data, trained.sources.get(TABLES)
        if content is None:
            raise CheckpointError(
                f"{trained.folder}: its config.json does not say which tables were read "
                f"(sources: {TABLES}); was it edited?"
            )
        if content == tables_content(tables):
            return None
        return cls(data.name, _users_of(data.folder, content))

    def user_names(self, tables: Tables) -> list[str]:
        """What stands for each user of the tables at hand."""
        numbers = {user: number for number, user in enumerate(self.users)}
        count = len(numbers)
        return [
            f"user_{numbers.get(user, count + number)}" if count else f"guest_{number}"
            for number, user in enumerate(tables.vocabulary(_USER_ID))
        ]

    def known_users(self, tables: Tables) -> Tensor:
        """``(U,)`` bool: a user of both."""
        known = set(self.users)
        return torch.tensor([user in known for user in tables.vocabulary(_USER_ID)])


def _users_of(folder: Path, content: str) -> Sequence[str]:
    """Of tables that are still those that were trained on."""
    if not (folder / "manifest.json").is_file():
        return ()
    tables = Tables.load(folder)
    return tables.vocabulary(_USER_ID) if tables_content(tables) == content else ()
