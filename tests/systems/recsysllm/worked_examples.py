"""Print the position ids of five small documents.

``python -m tests.systems.recsysllm.worked_examples`` does.

The first is figure 1 of the paper: seven tokens, of which the first three and the last two are
entities. ``--mode run`` and ``--mode glm`` number what fills the blanks otherwise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from legos.data.ragged import from_lengths
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.masking import DOCUMENT, ENTITY, Blanks
from legos.systems.recsysllm.positions import IGNORE, Examples, SpecialTokens, build_examples
from legos.systems.recsysllm.settings import IntraMode, PositionSettings
from legos.systems.recsysllm.units import Documents
from legos.systems.trie import build_trie

_X = ("x1", "x2", "x3"), "x4", "x5", ("x6", "x7")
_PROMPT = "[C]", "w1", "w2", ("e1", "e2", "e3"), ",", ("f1", "f2"), ".", ("t1", "t2", "t3", "t4")
SPECIAL = SpecialTokens(mask=1, sentence_mask=2, document_mask=3, start=4, end=5, pad=0)
_NAMES = {1: "[M]", 2: "[sM]", 3: "[gM]", 4: "[S]", 5: "[E]", IGNORE: "-"}


@dataclass(frozen=True)
class Worked:
    """One example.

    Attributes:
        title: what it shows.
        units: entities as tuples of words, plain tokens as words.
        ranges: tokens that are masked: first, and the one after the last.
        level: of the mask.
    """

    title: str
    units: tuple[str | tuple[str, ...], ...]
    ranges: tuple[tuple[int, int], ...]
    level: int = ENTITY


WORKED = (
    Worked("E1: figure 1 of the paper", _X, ((0, 3), (4, 5))),
    Worked("E2: one blank of several units", _X, ((3, 7),)),
    Worked("E3: two blanks, the first of two units", _X, ((0, 4), (5, 7))),
    Worked("E4: the whole document", _X, ((0, 7),), DOCUMENT),
    Worked("E5: a prompt whose answer is an entity", _PROMPT, ((10, 14),)),
)


def worked_documents(units: Sequence[str | tuple[str, ...]]) -> tuple[Documents, list[str]]:
    """A document of given units, and the word of each of its tokens; ids begin at 10."""
    pieces = [(unit,) if isinstance(unit, str) else unit for unit in units]
    words = [word for piece in pieces for word in piece]
    entity = torch.tensor([not isinstance(unit, str) for unit in units])
    lengths = torch.tensor([len(piece) for piece in pieces])
    documents = Documents(
        units=from_lengths(torch.arange(10, 10 + len(words), dtype=torch.int32), lengths),
        offsets=torch.tensor([0, len(pieces)]),
        is_entity=entity,
        ends_sentence=torch.zeros_like(entity),
        events=torch.full((len(pieces),), -1),
    )
    return documents, words


def work(example: Worked, settings: PositionSettings) -> tuple[Examples, list[str]]:
    """An example built as in training, and the words of its tokens."""
    documents, words = worked_documents(example.units)
    ranges = torch.tensor(example.ranges, dtype=torch.int64)
    blanks = Blanks(
        from_lengths(ranges, torch.tensor([len(ranges)])), torch.tensor([example.level])
    )
    entities = documents.units.select(documents.is_entity.nonzero()[:, 0])
    automaton = Automaton(build_trie(entities), settings)
    return build_examples(documents, blanks, SPECIAL, settings, automaton), words


def table(examples: Examples, words: Sequence[str]) -> str:
    """Inputs, targets and both positions, one line each."""
    length = int(examples.prompt_lengths[0])
    names = {**_NAMES, **{10 + row: word for row, word in enumerate(words)}}
    count = len(examples.tokens)
    places = [f"A{at}" if at < length else f"B{at - length}" for at in range(count)]

    def shown(values: Tensor) -> list[str]:
        return [names[int(value)] for value in values]

    lines = {
        "": places,
        "input": shown(examples.tokens),
        "target": shown(examples.targets),
        "inter": [str(int(value)) for value in examples.inter],
        "intra": [str(int(value)) for value in examples.intra],
    }
    return "\n".join(
        f"{name:8}" + "".join(f"{cell:>5}" for cell in cells) for name, cells in lines.items()
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all five."""
    parser = argparse.ArgumentParser(description="Position ids of RecSysLLM in five examples.")
    parser.add_argument("--mode", choices=get_args(IntraMode), help="only this intra_mode")
    chosen = parser.parse_args(arguments).mode
    for mode in [chosen] if chosen else get_args(IntraMode):
        print(f"intra_mode: {mode}\n")
        for example in WORKED:
            print(example.title)
            print(table(*work(example, PositionSettings(intra_mode=mode))), end="\n\n")


if __name__ == "__main__":
    main()
