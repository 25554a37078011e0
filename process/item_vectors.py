"""Command line: the items' raw text becomes one vector an item, by a language model.

python -m process.item_vectors --tables data/newsroom --model minilm --output vectors.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from legos.command_line import CommandParser
from legos.data.tables import Tables
from legos.data.vector_files import Encoder, refuse_unwritable, write_item_vectors
from legos.errors import DataError, nearest
from legos.files import sha256_of_text
from legos.lm.sentence_files import TASKS
from legos.progress import progress_bar
from process import arguments
from process.command import run_cli
from process.vector_blocks import VectorBlocks

if TYPE_CHECKING:
    from legos.data.ragged import Ragged
    from legos.lm.text_vectors import TextEncoder
    from legos.sharing import Sharing

BLOCK_TOKENS = 2**18
"""Maximum work lost by a kill."""

_COMPUTING = ("torch", "transformers")  # another version may compute other bits

DESCRIPTION = """\
Encode the texts of all items with a language model.

Sentence encoders (a folder with modules.json, saved by sentence-transformers) are applied as
shipped: pooling, Dense heads, LayerNorm, Normalize, maximum length and the prompt of --task. The
vectors equal SentenceTransformer(...).encode_document(texts) in float32. For any other Hugging Face
folder, a vector is the mean of the last hidden states.

The text fields of an item are joined by ". ". Items without text are left out; models give them a
learned default vector. Item encoder `fixed_vectors` reads the file given by embed.item_vectors and
encodes new items the same way, as recorded in the file. `python -m process.semantic_codes` makes
semantic codes from it.

Rerun the command to resume after a kill; the result is bit-identical. Finished blocks are kept in
OUTPUT.partial. Texts are encoded by length, longest first.
"""
EPILOG = r"""
example:
  python -m process.item_vectors --tables data/newsroom --model minilm --output vectors.safetensors
  python -m process.item_vectors --tables data/mind --field title --model /models/bert \
      --output title.safetensors
  python -m process.item_vectors --tables data/mind --model /models/embeddinggemma-300m \
      --dimensions 256 --output gemma.safetensors
  python -m process.item_vectors --tables data/mind --model /models/multilingual-e5-small \
      --prompt 'passage: ' --output e5.safetensors
  python -m process.item_vectors --tables data/mind --model /models/Qwen3-Embedding-0.6B \
      --prompt 'Instruct: Find news that the same reader likes\nQuery:' --output qwen.safetensors
  torchrun --nproc-per-node 4 -m process.item_vectors ...  (processes share the items)
"""


def build_parser() -> argparse.ArgumentParser:
    """The arguments of ``python -m process.item_vectors``."""
    parser = CommandParser(
        "python -m process.item_vectors",
        description=DESCRIPTION,
        epilog=EPILOG.lstrip(),
    )
    parser.add_argument(
        "--tables", type=Path, required=True, metavar="FOLDER", help="folder of prepared tables"
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="output file, .safetensors"
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
        help="text field to encode; may be repeated (default: all)",
    )
    parser.add_argument(
        "--max-length",
        type=arguments.count,
        metavar="N",
        help="maximum tokens of a text, including the prompt (default: that of the sentence "
        "encoder, 128 for any other model)",
    )
    _add_shipped(parser)
    return parser


def _add_shipped(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sentence encoders")
    words = group.add_mutually_exclusive_group()
    words.add_argument(
        "--task",
        choices=TASKS,
        default="document",
        help="task prompt to prepend, like encode_document, encode_query or encode of "
        "sentence-transformers (default: %(default)s)",
    )
    words.add_argument("--prompt-name", metavar="NAME", help="another prompt of the model")
    words.add_argument(
        "--prompt", metavar="TEXT", help=r"your own prompt, \n for a new line; '' for none"
    )
    group.add_argument(
        "--dimensions",
        type=arguments.count,
        metavar="N",
        help="truncate vectors to N dimensions and normalise again if the model does (Matryoshka; "
        "default: all)",
    )
    group.add_argument(
        "--bidirectional",
        action="store_true",
        help="use bidirectional attention in a decoder (LLM2Vec)",
    )


def main(args: argparse.Namespace) -> None:
    """Read texts, encode them, write vectors.

    Raises:
        LegosError: of the arguments, the tables or the language model.
    """
    refuse_unwritable(args.output)
    tables = Tables.load(args.tables)
    texts = item_texts(tables, args.field)
    ids = [name for name, text in zip(tables.vocabulary("item_id"), texts, strict=True) if text]
    texts = [text for text in texts if text]

    from legos.lm.locate import model_folder
    from legos.lm.text_vectors import TextEncoder, as_shipped
    from legos.sharing import Sharing
    from legos.workplace.device import joined_processes, make_accelerator

    folder = model_folder(args.model)
    how = as_shipped(
        folder,
        task=args.task,
        prompt_name=args.prompt_name,
        prompt=None if args.prompt is None else args.prompt.replace(r"\n", "\n"),
        max_length=args.max_length,
        dimensions=args.dimensions,
        bidirectional=args.bidirectional,
    )
    encoder = Encoder(model=args.model, fields=args.field or tables.text_fields, **how.model_dump())
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    with joined_processes(accelerator):
        maker = TextEncoder(folder, how)
        read = maker.read(texts)
        if accelerator.is_main_process:
            _tell(maker, read.cut)
        _encode_to(
            args.output, ids, texts, maker, read.tokens, encoder, Sharing.between(accelerator)
        )
    if accelerator.is_main_process:
        print(
            f"{args.output}: {len(ids):,} vectors of {maker.width:,} numbers; "
            f"{tables.num_items - len(ids):,} items without text left out"
        )


def _tell(maker: TextEncoder, cut: Tensor) -> None:
    """The prompt that is read, the others that there are, and what is cut off."""
    others = sorted(name for name, text in maker.files.prompts.items() if text)
    if maker.how.prompt:
        print(f"prompt: {maker.how.prompt!r}")
    elif others:
        print(f"no prompt; the model has {', '.join(others)} (--task, --prompt-name)")
    if int(cut.sum()):
        print(
            f"cut at {maker.longest:,} tokens: {int((cut > 0).sum()):,} of {len(cut):,} texts "
            f"lose {int(cut.sum()):,} tokens"
        )


def _encode_to(
    output: Path,
    ids: Sequence[str],
    texts: Sequence[str],
    maker: TextEncoder,
    tokens: Ragged,
    encoder: Encoder,
    sharing: Sharing,
) -> None:
    """Encode what no earlier run of the same command has encoded; write all of it."""
    from legos.lm.text_vectors import BATCH_TOKENS

    facts = {
        "model": sharing.first(lambda: maker.content),
        "texts": sha256_of_text("\n".join(map(repr, texts))),
        "batch_tokens": BATCH_TOKENS,
        "block_tokens": BLOCK_TOKENS,
        **{name: version(name) for name in _COMPUTING},
        **maker.how.model_dump(),
    }
    blocks = VectorBlocks(output, facts)
    vectors = np.zeros((len(texts), maker.width), dtype=np.float32)
    with ExitStack() as held:
        sharing.first(lambda: held.enter_context(blocks.held()))
        with progress_bar("encoding texts", tokens.values.numel()) as bar:
            for number, pages in enumerate(_blocks(tokens, maker.pages(tokens))):
                items = torch.cat(pages).numpy()
                known = sharing.first(partial(blocks.read, number, len(items), maker.width))
                if known is None:
                    for page, found in maker.encode(tokens, pages, sharing):
                        vectors[page.numpy()] = found.numpy()
                        bar.advance(int(tokens.lengths[page].sum()))
                    sharing.first(partial(blocks.write, number, vectors[items]))
                else:
                    vectors[items] = known
                    bar.advance(int(tokens.lengths[items].sum()))
        if sharing.is_first:
            write_item_vectors(output, ids, torch.from_numpy(vectors), encoder=encoder)
            blocks.remove()


def _blocks(tokens: Ragged, pages: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Consecutive pages of texts, together at least ``BLOCK_TOKENS`` but for the last."""
    block: list[Tensor] = []
    held = 0
    for page in pages:
        block.append(page)
        held += int(tokens.lengths[page].sum())
        if held >= BLOCK_TOKENS:
            yield block
            block, held = [], 0
    if block:
        yield block


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
