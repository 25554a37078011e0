"""What ``worker.py --help`` and ``--list`` say."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from textwrap import fill
from typing import Any

from legos.config.locations import headline, yamls
from legos.config.models import models, names_of
from legos.config.variables import PUBLISHED
from legos.config.yaml_files import FAMILIES, KINDS
from legos.errors import ConfigError, nearest
from legos.terminal import as_started

_SYSTEM = "system"

_HEAD = """\
Train, test and compare content-based recommenders, configured by four YAMLs.

usage:
  python worker.py --data YAML --model YAML --exp YAML [--embed YAML] [--variable VALUE ...]
  python worker.py ... --verbose             also print metrics by groups of items and users
  python worker.py ... --check               validate, then show shapes, parameters and memory
  python worker.py ... --save FILE           write the resolved configuration with comments;
                                             --config FILE repeats the run
  python worker.py ... --check --processes 8 also show memory per device under DDP and FSDP
  python worker.py --list [FAMILY]           names of {families}
  python worker.py --exp cache --list        list cached hidden states; --verify checks them,
                                             --prune removes old ones
  accelerate launch worker.py ...            run on several processes, with the same settings

first steps:
  python -m process.synthetic --raw data/raw/newsroom --output data/newsroom
  python worker.py --data config/data/newsroom.yaml --exp config/exp/quickstart.yaml

more examples:
  python worker.py --data mind --model nrms --exp tt-naml --embed minilm-token --version small
  python worker.py --data newsroom --model naml --exp tt --lr 5e-4 --model.item.dropout 0.1
  python worker.py --data newsroom --item cnn --user gru --predictor dot --exp tt
  python worker.py --data newsroom --model naml --exp search
  python worker.py --data newsroom --model naml --exp tt --exp.mode test --impressions NEW_FOLDER

sections (a name or the path of a YAML; --embed is optional):
{yamls}

variables (--name VALUE fills ${{name}} in every YAML; a YAML may set other defaults):
{variables}

other options:
  --item, --user, --predictor NAME
                       replace a brick of --model (--list item); without --model give all three
  --plugin MODULE      import your own bricks or systems first; may be repeated
  --load RUN           test a trained run again: its folder, the first digits of its id, or a
                       folder of runs, such as runs/shop (its newest run)
  --config FILE        read all sections from a file written by --save; --data, --model, ...
                       replace one of them
  --a.b.c VALUE        set one key of a YAML: --data.history_length 30, --exp.train.seed 7,
                       --exp.train.negatives.strategy uniform, --data.fields.0.length 20
  --impressions DIR    mode test: score behaviors.tsv in DIR (MIND's layout), including users and
                       items that training never saw; news.tsv, items.jsonl or items.tsv in DIR
                       describes new items
  --news FILE          read the new items from this file instead
  Values use YAML syntax: 0.1, 1e-3, true, null, [1, 2].

Every run has a folder runs/<data>/<model>/<run id>/, named by its settings and data. Rerun the same
command to resume an interrupted run; a finished run is reported, not repeated.
Exit codes: 0 success, 1 internal error (--traceback shows where), 2 wrong input, 130 interrupted
(progress is saved), 141 output closed by its reader.
Guide: docs/quickstart.md"""


def help_text() -> str:
    """Return usage, examples, YAMLs and variables with their defaults."""
    yamls = "\n".join(
        fill(
            ", ".join(names_of(kind)),
            width=100,
            initial_indent=f"  --{kind:<7}",
            subsequent_indent=" " * 11,
        )
        for kind in KINDS
    )
    variables = "\n".join(
        f"  --{name:<19}{variable.meaning} ({_shown(variable.default)})"
        for name, variable in PUBLISHED.items()
    )
    families = ", ".join((*FAMILIES, _SYSTEM, *KINDS))
    return as_started(_HEAD.format(families=families, yamls=yamls, variables=variables))


def _shown(default: Any) -> str:
    return json.dumps(default) if default is None or isinstance(default, bool) else str(default)


def list_families(families: Sequence[str]) -> None:
    """Print a table for each requested family; without any, for all families, models first.

    Args:
        families: names, as after ``--list``.

    Raises:
        ConfigError: there is no such family; the message names the nearest.
    """
    known = ("model", _SYSTEM, *FAMILIES, *(kind for kind in KINDS if kind != "model"))
    for family in families:
        if family not in known:
            raise ConfigError(f"--list {family}: no such family; {nearest(family, known)}")
    tables = (table for family in families or known for table in _tables(family))
    print("\n\n".join("\n".join([head, *_aligned(rows)]) for head, rows in tables))


def _tables(family: str) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield head and rows of each table of a family."""
    if family == "model":
        yield from _models()
    elif family in FAMILIES:
        from legos.registry import bricks  # imports torch

        registry = bricks(family)
        head = f"{family}: {registry.family}s, by name (--{family} NAME or model.{family})"
        yield head, [(name, registry.describe(name)) for name in registry.names()]
    elif family == _SYSTEM:
        from legos.config.model_schema import registered_system, systems  # imports pydantic

        head = "system: training and scoring code, by name (key `system` of a model YAML)"
        yield head, [(name, registered_system(name).about) for name in systems()]
    else:
        head = f"{family}: YAMLs in config/{family}/"
        yield head, [(name, headline(path)) for name, path in yamls(family).items()]


def _models() -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield one table per group: published models first, then their variants."""
    found = models().values()
    for group in dict.fromkeys(model.group for model in found):
        members = [model for model in found if model.group == group]
        yield (
            f"model: {group}",
            [
                (model.name, " · ".join(model.bricks.values()), model.paper or model.description)
                for model in sorted(members, key=lambda model: not model.paper)
            ],
        )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows in columns; on a terminal the last column is folded."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    begin = 2 + sum(width + 2 for width in widths)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for *first, last in rows:
        line = "  " + "".join(f"{each:<{wide}}  " for each, wide in zip(first, widths, strict=True))
        folded = fill(last, width - begin) if width > 2 * begin else last
        yield line + folded.replace("\n", "\n" + " " * begin)
