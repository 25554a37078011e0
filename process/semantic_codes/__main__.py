"""Command line: item vectors become semantic codes."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor

from legos.blocks.residual_codes import Level, colliding, quantise, without_collisions
from legos.command_line import CommandParser
from legos.data.tables import Tables
from legos.data.vector_files import (
    read_item_vectors,
    read_vector_rows,
    refuse_unwritable,
    write_item_codes,
)
from legos.errors import DataError
from legos.progress import PlainConsole, progress_bar
from process import arguments
from process.command import run_cli

DESCRIPTION = """\
Quantise item vectors to semantic codes by residual k-means.

The first level clusters the vectors, each further level the residuals of the levels before it, so
that similar items share their first codes. The result is deterministic. Item encoder
`semantic_codes` reads the file named by embed.item_codes.
"""
EPILOG = """\
example:
  python -m process.item_vectors --tables data/newsroom --model minilm --output vectors.safetensors
  python -m process.semantic_codes --vectors vectors.safetensors --output codes.safetensors
  python -m process.semantic_codes --vectors vectors.npy --tables data/newsroom --unique \\
      --levels 4 --size 64 --output codes.safetensors
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.semantic_codes``."""
    parser = CommandParser(
        "python -m process.semantic_codes",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        required=True,
        metavar="FILE",
        help="vectors of items: .safetensors with their ids, or .npy in the order of --tables",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the codes, .safetensors"
    )
    parser.add_argument(
        "--tables",
        type=Path,
        metavar="FOLDER",
        help="only make codes for the items of these tables; needed for .npy",
    )
    numbers = (
        ("--levels", 3, "codes per item"),
        ("--size", 256, "different codes per level"),
        ("--iterations", 50, "maximum k-means iterations per level"),
        ("--seed", 0, "seed of the initial centres"),
    )
    arguments.add_numbers(parser, numbers, read=arguments.natural)
    parser.add_argument(
        "--unique",
        action="store_true",
        help="add a last level that numbers the items whose codes are the same",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Read vectors, quantise, print what the levels did, write codes.

    Raises:
        DataError: of the arguments or the files.
    """
    refuse_unwritable(args.output)
    for option in ("levels", "size", "iterations"):
        if getattr(args, option) < 1:
            raise DataError(f"--{option} {getattr(args, option)}: at least 1")
    ids, vectors = read_vectors(args.vectors, args.tables)
    if args.size > len(ids):
        raise DataError(f"--size {args.size}: more codes than the {len(ids):,} items with vectors")
    with progress_bar("k-means", args.levels * args.iterations) as bar:
        found = quantise(
            vectors,
            levels=args.levels,
            size=args.size,
            seed=args.seed,
            iterations=args.iterations,
            advance=bar.move,
        )
    codes = without_collisions(found.codes) if args.unique else found.codes
    print_levels(found.levels, vectors, codes if args.unique else None)
    write_item_codes(args.output, ids, codes)


def read_vectors(path: Path, tables: Path | None) -> tuple[list[str], Tensor]:
    """Raw ids and ``(N, E)`` float32 vectors of the items that have one.

    Raises:
        DataError: of the files, or no tables say which items the rows are.
    """
    if tables is None:
        rows = read_vector_rows(path)
        if rows.ids is None:
            raise DataError(f"{path}: names no items; give the tables it was made for by --tables")
        return rows.ids, rows.values
    loaded = Tables.load(tables)
    vectors = read_item_vectors(path, loaded)
    present = (~vectors.isnan().any(1)).nonzero()[:, 0]
    names = loaded.vocabulary("item_id")
    return [names[row] for row in present.tolist()], vectors[present]


def print_levels(levels: list[Level], vectors: Tensor, unique: Tensor | None) -> None:
    """Print what is left over after each level, and how far the codes tell items apart."""
    table = Table(title=f"Codes of {len(vectors):,} vectors of {vectors.shape[1]:,} numbers")
    for head in ("level", "error", "of the variance", "codes used", "items with others' codes"):
        table.add_column(head, justify="right")
    for number, level in enumerate(levels, 1):
        table.add_row(
            str(number),
            f"{level.error:.4g}",
            f"{level.left:.1%}",
            f"{level.used:,}",
            f"{level.colliding:,}",
        )
    if unique is not None:
        used = len(torch.unique(unique[:, -1]))
        table.add_row("unique", "", "", f"{used:,}", f"{colliding(unique):,}")
    PlainConsole().print(table)


if __name__ == "__main__":
    run_cli(main, build_parser())
