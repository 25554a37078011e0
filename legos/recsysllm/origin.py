"""Where a model that is measured was trained, if that was on other tables: zero-shot transfer.

Nothing of the tables at hand is trained with. Whoever has the same id in both keeps the name that
was trained; everyone else gets one that nobody had.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from legos.data.tables import Tables
from legos.errors import DataError

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
        found = next((r for r in map(_described, _run_folders(load)) if r is not None), None)
        if found is None or found["fingerprint"] == tables.fingerprint:
            return None
        return cls(str(found["data"]), _users_of(Path(found["folder"]), str(found["fingerprint"])))

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


def _run_folders(load: Path | None) -> list[Path]:
    return [] if load is None else [load, *list(load.absolute().parents)[:2]]


def _described(folder: Path) -> dict[str, Any] | None:
    """Data set, its fingerprint and its folder as a run's files tell them."""
    results, config = folder / "results.json", folder / "config.json"
    if not (results.is_file() and config.is_file()):
        return None
    try:
        told = json.loads(results.read_text(encoding="utf-8"))
        data = json.loads(config.read_text(encoding="utf-8"))["data"]
        return {**{key: told[key] for key in ("data", "fingerprint")}, "folder": data["folder"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: not what a run leaves behind ({error!r})") from None


def _users_of(folder: Path, fingerprint: str) -> Sequence[str]:
    """Of tables that are still those that were trained on."""
    if not (folder / "manifest.json").is_file():
        return ()
    tables = Tables.load(folder)
    return tables.vocabulary(_USER_ID) if tables.fingerprint == fingerprint else ()
