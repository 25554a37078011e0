"""Command line: make a tokenizer and a small decoder's shape from the words of finished tables.

python -m process.vocabulary --tables data/amazon-beauty --output models/beauty-words
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from legos.command_line import CommandParser
from legos.data.batch import clicks_of
from legos.data.interactions import Interactions
from legos.data.reviews import Reviews
from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import atomic_folder, output_lock, write_json
from legos.systems.recsysllm.catalogue import Catalogue
from legos.systems.recsysllm.prompts import builtin_prompts
from process import arguments
from process.command import run_cli

DESCRIPTION = """\
Write a tokenizer with the words of one data set, and the shape of a small decoder.

A small decoder spends most of a training step on the scores of words. The vocabulary of a data set
is a tenth of a pretrained one, and most words and user numbers are one token, as far as --size
allows. The tokenizer is a byte-level BPE, so it can read any text. The folder contains no weights:
train the decoder with --model recsysllm_scratch or cllm4rec_scratch.
"""
EPILOG = """\
example:
  python -m process.vocabulary --tables data/amazon-beauty --output models/beauty-words
  python worker.py --data amazon-beauty --model recsysllm_scratch --exp recsysllm \\
      --llm_ver models/beauty-words --horizons count --data.splits.test '[test]'
"""
_FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
_AT_LEAST, _OFTEN = 2, 100  # of a name; of a template or a number of stars


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``python -m process.vocabulary``."""
    parser = CommandParser("python -m process.vocabulary", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument(
        "--tables", type=Path, required=True, metavar="FOLDER", help="finished tables"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a new folder, or one that already holds the same vocabulary",
    )
    numbers = (
        ("--size", 8192, "maximum number of tokens in the vocabulary"),
        ("--max-name-words", 30, "words of a title to read, as in model.tasks.max_name_words"),
        ("--width", 128, "width of the decoder's hidden states"),
        ("--layers", 4, "number of layers"),
        ("--heads", 4, "attention heads per layer"),
        ("--positions", 4096, "maximum number of tokens that the decoder reads"),
    )
    arguments.add_numbers(parser, numbers, read=arguments.count)
    parser.add_argument(
        "--dropout", type=float, default=0.2, metavar="P",
        help="dropout of embeddings and of layer outputs (default: %(default)s)",
    )  # fmt: skip
    return parser


def texts_of(tables: Tables, *, max_words: int) -> Iterator[str]:
    """What prompts and documents of tables are made of, about as often as training reads it."""
    catalogue = Catalogue.from_tables(tables, max_words=max_words)
    train = Interactions.from_tables(tables, "train", history_length=1)
    clicked = clicks_of(train)
    clicks = torch.bincount(clicked.values, minlength=tables.num_items)
    events = torch.bincount(clicked.spread(train.users), minlength=tables.num_users)
    for names, counts in ((catalogue.items, clicks), (catalogue.users, events)):
        for name, count in zip(names, counts.tolist(), strict=True):
            yield from [f" {name}"] * (_AT_LEAST + count)
    for values in catalogue.entities().values():
        for value in values:
            yield from (value, f" {value}")
    for template in builtin_prompts().templates:
        yield from [" ".join(template.parts)] * _OFTEN
    yield from [f" {tenths / 10}" for tenths in range(10, 51)] * _OFTEN
    if "reviews" in tables.manifest["tables"]:
        for review in Reviews.from_tables(tables, "train"):
            yield from review.texts.values()


def learn(texts: Iterator[str], *, size: int) -> Tokenizer:
    """Byte-level BPE with GPT-2's way of cutting texts into words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def shape_of(args: argparse.Namespace, tokens: int) -> dict[str, object]:
    """The ``config.json`` of a GPT-2 with this many words."""
    if args.width % args.heads:
        raise DataError(f"--width {args.width}: expected a multiple of --heads {args.heads}")
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": tokens,
        "n_positions": args.positions,
        "n_embd": args.width,
        "n_layer": args.layers,
        "n_head": args.heads,
        "embd_pdrop": args.dropout,
        "resid_pdrop": args.dropout,
        "attn_pdrop": 0.0,  # costs the fast attention
        "bos_token_id": None,
        "eos_token_id": None,
    }


def main(args: argparse.Namespace) -> None:
    """Learn the vocabulary and write the folder, unless exactly this one is there.

    Raises:
        LegosError: of the arguments or the tables.
    """
    other = DataError(
        f"--output {args.output}: already exists and is not a vocabulary of these tables "
        "and options; expected a new folder"
    )
    if args.output.exists() and not (args.output / "tokenizer.json").is_file():
        raise other
    tables = Tables.load(args.tables)
    tokenizer = learn(texts_of(tables, max_words=args.max_name_words), size=args.size)
    tokens = tokenizer.get_vocab_size()
    shape = shape_of(args, tokens)
    with output_lock(args.output), TemporaryDirectory() as scratch:
        made = Path(scratch)
        tokenizer.save(str(made / "tokenizer.json"))
        write_json(made / "config.json", shape)
        write_json(made / "tokenizer_config.json", _FAST)
        if not args.output.exists():
            with atomic_folder(args.output) as folder:
                shutil.copytree(made, folder, dirs_exist_ok=True)
        elif _files(args.output) != _files(made):
            raise other
    print(
        f"{args.output}: {tokens:,} tokens; a decoder of {args.layers} layers of {args.width} "
        "numbers, without weights"
    )


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


if __name__ == "__main__":
    run_cli(main, build_parser())
