"""Command line: the vectors of users and items that a CLLM4Rec has learnt, as files for bricks.

python -m process.cllm4rec_vectors --run runs/amazon-beauty-random/cllm4rec/RUN_ID --output FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

from legos.command_line import CommandParser
from legos.errors import ConfigError, DataError
from process.command import run_cli

SETS = ("collaborative", "content")
DESCRIPTION = """\
Export the vectors of users and items of a trained CLLM4Rec, with their ids, to users.safetensors
and items.safetensors. Item encoder `fixed_vectors` and user encoder `user_vectors` read them; model
cllm4rec_emb (CLLM4Rec-Emb in the paper) combines both with a dot product and needs no language
model.

Users and items without training interactions are left out, because their vectors are untrained;
models give them a learned default vector.
"""
EPILOG = """\
example:
  python -m process.cllm4rec_vectors --run runs/amazon-beauty-random/cllm4rec/0123456789ab \\
      --output cache/beauty-cllm4rec
  python worker.py --data amazon-beauty-random --model cllm4rec_emb --exp rank-all \\
      --embed user-item-vectors --vectors_folder cache/beauty-cllm4rec
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.cllm4rec_vectors``."""
    parser = CommandParser(
        "python -m process.cllm4rec_vectors",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, metavar="FOLDER", help="runs/DATA/MODEL/RUN_ID")
    add("--output", type=Path, required=True, metavar="FOLDER", help="output folder")
    add(
        "--sets",
        nargs="+",
        choices=SETS,
        default=["collaborative"],
        help="which vectors to export; several are concatenated (default: collaborative)",
    )
    add("--all", action="store_true", help="also export users and items without interactions")
    return parser


def main(args: argparse.Namespace) -> None:
    """Open the run, write both files.

    Raises:
        LegosError: no trained run of CLLM4Rec, or one without content vectors that are asked for.
    """
    import torch

    from legos.data.vector_files import write_item_vectors, write_user_vectors
    from legos.modes.train_test import open_trained
    from legos.systems.cllm4rec.system import Cllm4RecSystem

    system = open_trained(args.run, device="cpu")
    if not isinstance(system, Cllm4RecSystem):
        raise ConfigError(f"{args.run}: not a run of cllm4rec")
    chosen = [getattr(system.model, name) for name in dict.fromkeys(args.sets)]
    if any(tables is None for tables in chosen):
        raise DataError(f"{args.run}: trained without texts, so it has no content vectors")
    tables = system.workplace.tables
    read = torch.bincount(system.items.values, minlength=tables.num_items) > 0
    read_users = system.items.lengths > 0
    for name, known, vocabulary, write in (
        ("item", read, "item_id", write_item_vectors),
        ("user", read_users, "user_id", write_user_vectors),
    ):
        vectors = torch.cat([getattr(each, name).weight.detach() for each in chosen], 1)
        rows = (known | args.all).nonzero()[:, 0]
        ids = tables.vocabulary(vocabulary)
        path = args.output / f"{name}s.safetensors"
        write(path, [ids[row] for row in rows.tolist()], vectors[rows])
        left = len(ids) - len(rows)
        print(
            f"{path}: {len(rows):,} vectors of {vectors.shape[1]:,} numbers"
            + (f"; {left:,} {name}s without interactions left out" if left else "")
        )


if __name__ == "__main__":
    run_cli(main, build_parser())
