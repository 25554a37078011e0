"""``worker.py --list``: every brick and every YAML, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from legos.config.checks import FAMILIES, bricks
from legos.config.locations import CONFIG_FOLDER, KINDS, headline, yaml_files
from legos.config.model_schema import SYSTEMS
from legos.errors import ConfigError, nearest

_SYSTEM = "system"


def list_families(families: Sequence[str]) -> str:
    """A headed block of lines for each family asked for; for all of them when none is.

    Raises:
        ConfigError: there is no such family; the message names the nearest.
    """
    known = (*FAMILIES, _SYSTEM, *KINDS)
    for family in families:
        if family not in known:
            raise ConfigError(f"--list {family}: no such family; {nearest(family, known)}")
    return "\n\n".join(_block(family) for family in families or known)


def _block(family: str) -> str:
    if family in FAMILIES:
        registry = bricks(family)
        head = f"{family}: {registry.family}s, by the name that a model YAML gives"
        lines = {name: registry.describe(name) for name in registry.names()}
    elif family == _SYSTEM:
        head = "system: what trains and scores a model, by the name that key system gives"
        lines = dict(SYSTEMS)
    else:
        head = f"{family}: YAMLs in config/{family}/"
        folder = CONFIG_FOLDER / family
        files = yaml_files(folder)
        lines = {str(path.relative_to(folder).with_suffix("")): headline(path) for path in files}
    width = max(map(len, lines), default=0)
    return "\n".join([head, *(f"  {name:<{width}}  {text}" for name, text in lines.items())])
