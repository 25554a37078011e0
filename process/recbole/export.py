"""Leave-last-out tables as RecBole's atomic files and a YAML for every model.

https://recbole.io/docs/user_guide/data/atomic_files.html: a header of ``name:type`` and a row a
line, TABs between. A user's events get times 0, 1, 2, ..., so that RecBole's own leave-last-out
(``LS: valid_and_test`` by ``TO``) is the split of the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import atomic_folder, output_lock, sha256_of_file, write_json, write_text
from legos.systems.recsysllm.tasks.events import Sequences
from process.recbole.settings import CLASS, MODELS, NEED_ATTRIBUTES, SHARED, settings_text

MANIFEST = "export.json"
SHARED_YAML = "shared.yaml"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: of the files; its name is the data set's name for RecBole.
        users, events, items: how many; items are all of the tables.
        left_out: users of fewer than three events, who are in no held-out split.
        models: those with a YAML; without item attributes some have none.
    """

    folder: Path
    users: int
    events: int
    items: int
    left_out: int
    models: tuple[str, ...]


def export(tables: Tables, folder: Path) -> Exported:
    """Write ``<name>.inter``, ``<name>.item`` where items have categories, and YAMLs.

    Users and items are called by their row numbers. An item's class is the codes of all its
    category fields that are known.

    Args:
        tables: split leave-last-out.
        folder: does not exist yet; the last part of its name is the name of the data set.

    Raises:
        DataError: the folder exists, or the tables are split in another way.
    """
    with output_lock(folder) as target:
        if folder.exists():
            raise DataError(f"{folder}: already exists; delete it or choose another --output")
        sequences = Sequences.from_tables(tables)
        classes = _classes(tables)
        has_classes = any(classes)
        models = tuple(name for name in MODELS if has_classes or name not in NEED_ATTRIBUTES)
        name = target.name
        with atomic_folder(folder) as temporary:
            write_text(temporary / f"{name}.inter", _events(sequences))
            if has_classes:
                write_text(temporary / f"{name}.item", _items(classes))
            write_text(temporary / SHARED_YAML, settings_text(SHARED))
            for model in models:
                write_text(temporary / f"{model}.yaml", settings_text(MODELS[model]))
            write_json(
                temporary / MANIFEST,
                {
                    "tables": tables.fingerprint,
                    "name": tables.name,
                    "events": sha256_of_file(temporary / f"{name}.inter"),
                },
            )
    return Exported(
        folder=folder,
        users=len(sequences),
        events=sequences.items.values.numel(),
        items=tables.num_items,
        left_out=tables.num_users - len(sequences),
        models=models,
    )


def _events(sequences: Sequences) -> str:
    """The content of ``.inter``: a row an event, the user's last two are valid and test."""
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    offsets = sequences.items.offsets.tolist()
    items = sequences.items.values.tolist()
    for row, user in enumerate(sequences.users.tolist()):
        own = items[offsets[row] : offsets[row + 1]]
        lines += [f"{user}\t{item}\t{place}" for place, item in enumerate(own)]
    return "\n".join(lines) + "\n"


def _items(classes: list[list[str]]) -> str:
    """The content of ``.item``: attributes with blanks between them."""
    lines = [f"item_id:token\t{CLASS}:token_seq"]
    lines += [f"{item}\t{' '.join(own)}" for item, own in enumerate(classes)]
    return "\n".join(lines) + "\n"


def _classes(tables: Tables) -> list[list[str]]:
    """Codes of an item's category fields, ``brand_17``; those that are unknown are left out."""
    fields = tables.manifest["fields"]
    named = [name for name, field in fields.items() if field["kind"] == "category"]
    found: list[list[str]] = [[] for _ in range(tables.num_items)]
    for name in named:
        for item, code in enumerate(tables.scalar("items", name).tolist()):
            if code:
                found[item].append(f"{name}_{code}")
    return found
