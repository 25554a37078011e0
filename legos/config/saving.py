"""``worker.py --save FILE``: the whole configuration of a run as one YAML that explains itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from legos.config.load import load_run_config
from legos.config.locations import KINDS, shown
from legos.config.schema import RunConfig
from legos.config.yaml_files import parse_value
from legos.errors import ConfigError
from legos.files import atomic_path
from legos.lm.source import LanguageModelSource

_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./@+-]*")  # texts that need no quotes
_HEAD = """\
# The whole configuration of a run; a value that is the default says so
# python worker.py --config {file}
"""


def save_configuration(config: RunConfig, path: Path) -> None:
    """Write a configuration so that ``--config path`` is the same run again.

    Raises:
        ConfigError: there is such a file, or a value that no YAML gives back (``${``).
    """
    if path.exists():
        raise ConfigError(f"--save {shown(path)}: is there already; delete it or choose another")
    with atomic_path(path) as written:
        written.write_text(yaml_of(config, path), encoding="utf-8")
        again = load_run_config(["--config", str(written)], notice=lambda text: None)
        for kind in KINDS:
            if getattr(again, kind) != getattr(config, kind):
                raise ConfigError(f"--save: section {kind} holds a value that no YAML gives back")


def yaml_of(config: RunConfig, path: Path) -> str:
    """The text of a file that ``--config`` reads.

    Args:
        config: of a run.
        path: of the file, for its head.
    """
    text = _HEAD.format(file=shown(path))
    for kind in KINDS:
        section: BaseModel = getattr(config, kind)
        text += f"\n{kind}:\n" + "".join(f"{line}\n" for line in _lines(section, 1))
    return text


def _lines(section: BaseModel, level: int) -> Iterator[str]:
    """The keys of a section, each below its meaning."""
    indent = "  " * level
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        for line in wrap(field.description or "", _WIDTH - len(indent) - 2):
            yield f"{indent}# {line}"
        if isinstance(value, LanguageModelSource):
            given = {key: said for key, said in plain[name].items() if said not in (None, False)}
            yield f"{indent}{name}: {_value(given)}{_default(field, value)}"
        elif isinstance(value, BaseModel):
            yield f"{indent}{name}:{_default(field, value)}"
            yield from _lines(value, level + 1)
        elif isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value):
            yield f"{indent}{name}:"
            for each in value:
                first, *others = (line[len(indent) + 4 :] for line in _lines(each, level + 2))
                yield f"{indent}  - {first}"
                yield from (f"{indent}    {line}" for line in others)
        else:
            yield f"{indent}{name}: {_value(plain[name])}{_default(field, value)}"


def _default(field: FieldInfo, value: Any) -> str:
    """The mark of a value that is as without it."""
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True, validated_data={})
    return "  # default" if default == value else ""


def _value(value: Any) -> str:
    """A plain value in one line of YAML."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and parse_value(value) == value
        return value if plain else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_value(key)}: {_value(each)}' for key, each in value.items())}}}"
    return json.dumps(value)
