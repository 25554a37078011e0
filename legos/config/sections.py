"""The sections of a run by name: a YAML, a row of ``config/models.yaml``, or a saved file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from legos.config.locations import CONFIG_FOLDER, KINDS, locate, shown, yaml_files
from legos.config.models import models, read_model, write_out
from legos.config.yaml_files import Document, read_document
from legos.errors import ConfigError


def names_of(kind: str) -> list[str]:
    """Every name that ``--<kind>`` knows."""
    if kind == "model":
        return list(models())
    folder = CONFIG_FOLDER / kind
    return [str(path.relative_to(folder).with_suffix("")) for path in yaml_files(folder)]


def read_section(kind: str, name: str) -> Document:
    """The section that ``--<kind> <name>`` means; models with their bricks written out.

    Args:
        kind: data, model, exp or embed.
        name: a name, or the path of a YAML: of such a section, or of a whole configuration.

    Raises:
        ConfigError: there is nothing of that name, or it cannot be read.
    """
    section = read_model(name) if kind == "model" else read_document(locate(kind, name))
    if kind in _whole(section):
        section = section.part((kind,))
    if kind == "model":
        write_out(section)
    return section


def kinds_of(path: Path) -> Sequence[str]:
    """Which sections a file of a whole configuration (``--save``) has.

    Raises:
        ConfigError: it is none.
    """
    document = read_document(path)
    found = _whole(document)
    if not found:
        raise ConfigError(
            f"--config {shown(path)}: expected sections {', '.join(KINDS)}, as --save writes them, "
            f"found {', '.join(document.data)}"
        )
    return found


def _whole(document: Document) -> Sequence[str]:
    """The sections of a document that is a whole configuration; none of another."""
    said = document.data
    if not all(key in KINDS and isinstance(value, dict) for key, value in said.items()):
        return []
    return list(said)
