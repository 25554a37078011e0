"""Command line: the items' raw text becomes one vector an item, by a language model.

python -m process.item_vectors --tables data/newsroom --model minilm --output vectors.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from legos.command_line import CommandParser
from legos.data.tables import Tables
from legos.data.vector_files import Encoder, refuse_unwritable, write_item_vectors
from legos.errors import DataError, nearest
from process import moments
from process.command import run_cli

DESCRIPTION = """\
Encode every item's text with a language model: the mean of its last hidden states.

The text fields of an item are joined by ". ". An item without any text is left out of the file;
models give such items a learned vector. Item encoder `fixed_vectors` reads the file that
embed.item_vectors names, and gives new items vectors in the same way, since the file says in which;
`python -m process.semantic_codes` makes codes of it.
"""
EPILOG = """\
example:
  python -m process.item_vectors --tables data/newsroom --model minilm --output vectors.safetensors
  python -m process.item_vectors --tables data/mind --field title --model /models/bert \\
      --output title.safetensors
  torchrun --nproc-per-node 4 -m process.item_vectors ...  (processes share the items)
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.item_vectors``."""
    parser = CommandParser(
        "python -m process.item_vectors",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument(
        "--tables", type=Path, required=True, metavar="FOLDER", help="finished tables"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the vectors, .safetensors"
    )
    parser.add_argument(
        "--model",
        default="minilm",
        help="'minilm' (all-MiniLM-L6-v2) or the folder of a Hugging Face encoder "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--field",
        action="append",
        metavar="NAME",
        help="a text field; may be given several times (default: all of them)",
    )
    parser.add_argument(
        "--max-length",
        type=moments.count,
        default=128,
        metavar="N",
        help="tokens that a text keeps (default: %(default)s)",
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Read texts, encode them, write vectors.

    Raises:
        LegosError: of the arguments, the tables or the language model.
    """
    refuse_unwritable(args.output)
    tables = Tables.load(args.tables)
    texts = item_texts(tables, args.field)
    ids = [name for name, text in zip(tables.vocabulary("item_id"), texts, strict=True) if text]

    from legos.lm.locate import model_folder
    from legos.lm.states import text_vectors
    from legos.sharing import Sharing
    from legos.workplace.device import joined_processes, make_accelerator

    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    with joined_processes(accelerator):
        vectors = text_vectors(
            [text for text in texts if text],
            model_folder(args.model),
            max_length=args.max_length,
            sharing=Sharing.between(accelerator),
        )
    if accelerator.is_main_process:
        encoder = Encoder(
            model=args.model, fields=args.field or tables.text_fields, max_length=args.max_length
        )
        write_item_vectors(args.output, ids, torch.from_numpy(vectors), encoder=encoder)
        print(
            f"{args.output}: {len(ids):,} vectors of {vectors.shape[1]:,} numbers; "
            f"{len(texts) - len(ids):,} items without text left out"
        )


def item_texts(tables: Tables, fields: Sequence[str] | None) -> list[str]:
    """The text of every item, its fields joined; empty where it has none.

    Raises:
        DataError: a field is not one, or no item has any text.
    """
    known = tables.text_fields
    for name in fields or ():
        if name not in known:
            raise DataError(f"--field {name!r}: no such text field; {nearest(name, known)}")
    texts = tables.joined_texts(fields or known)
    if not any(texts):
        raise DataError(f"{tables.folder}: no item has any text to encode")
    return texts


if __name__ == "__main__":
    run_cli(main, build_parser())
