"""What ``worker.py --help`` says."""

from __future__ import annotations

import json
from textwrap import fill
from typing import Any

from legos.config.locations import KINDS
from legos.config.overrides import PUBLISHED
from legos.config.sections import names_of

_HEAD = """\
Train, test and compare content-based recommenders that four YAMLs describe.

usage:
  python worker.py --data YAML --model YAML --exp YAML [--embed YAML] [--variable VALUE ...]
  python worker.py ... --check               resolve, validate, show shapes, parameters, memory
  python worker.py ... --save FILE           write the whole configuration, explained; --config FILE
                                             is the same run again
  python worker.py --list [FAMILY]           names of {families}
  python worker.py --exp cache --list        cached hidden states; --verify: are they whole; --prune
  accelerate launch worker.py ...            more processes; nothing else changes

first steps:
  python -m process.synthetic --raw data/raw/newsroom --output data/newsroom
  python worker.py --data config/data/newsroom.yaml --exp config/exp/quickstart.yaml

more examples:
  python worker.py --data mind --model nrms --exp tt-naml --embed minilm-token --version small
  python worker.py --data newsroom --model naml --exp tt --lr 5e-4 --model.item.dropout 0.1
  python worker.py --data newsroom --item cnn --user gru --predictor dot --exp tt
  python worker.py --data newsroom --model naml --exp tt --exp.mode test --impressions NEW_FOLDER

sections (a name, or the path of a YAML; --embed is null by default):
{yamls}

variables (--name VALUE fills ${{name}} in every YAML; each default may be set by the YAML itself):
{variables}

anything else:
  --item, --user, --predictor NAME
                       bricks by name (--list item): those of --model, or all three without one
  --config FILE        all sections from a file of --save; --data, --model, ... replace one of them
  --a.b.c VALUE        set one key of a YAML: --data.history_length 30, --exp.train.seed 7,
                       --exp.train.negatives.strategy uniform, --data.fields.0.length 20
  --impressions DIR    mode test: score behaviors.tsv in DIR (MIND's layout), users and items that
                       training never saw included; news.tsv, items.jsonl or items.tsv there
                       describes new items
  --news FILE          ... or in this file
  Values are read as in a YAML: 0.1, 1e-3, true, null, [1, 2].

Every run has a folder runs/<data>/<model>/<run id>/ named by its settings and data: the same
command goes on where it was interrupted, and says so when there is nothing left to do.
Exit codes: 0 done, 1 a fault of legos (--traceback shows where), 2 a mistake in what was given,
130 interrupted (and saved), 141 nobody reads the output any more.
Guide: docs/user-guide.md"""


def help_text() -> str:
    """Usage, examples, YAMLs and variables with their defaults."""
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
    families = ", ".join(("item", "user", "predictor", "system", *KINDS))
    return _HEAD.format(families=families, yamls=yamls, variables=variables)


def _shown(default: Any) -> str:
    return json.dumps(default) if default is None or isinstance(default, bool) else str(default)
