"""What RecSysLLM's setting costs a pretrained decoder before anything is trained, in nats a token.

    python -m benchmarks.recsysllm_start --data FOLDER [--texts 16] [--users 16] [--starts]

  text    Reviews of a data set: the first half of each is given (Part A), the tokens of the second
          half are predicted (Part B, without a blank). transformers' own model reads both as they
          stand. By default ours may differ from it by at most .02.
  title   The held-out next item of users after a prompt: nats a token of its title, and of [END].
          transformers' own model reads the same words without mask and [START]; its end is the
          end of a line.

Rows are the default, Part A read both ways, Part B placed at its mask (``positions: glm``), and
new tokens that start as the mean of all words. ``--starts`` tries other words for [END] as well.
Tables are split leave-last-out and have reviews. The language model is the packaged SmolLM2-135M,
all 30 layers, fp32. The last line is JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.report import finish
from legos.data.ragged import Ragged, from_lengths, offsets_of
from legos.data.tables import Tables
from legos.lm.load import LanguageModel
from legos.lm.locate import packaged
from legos.lm.word_model import word_model
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, start_words
from legos.systems.recsysllm.decoding import token_losses
from legos.systems.recsysllm.positions import IGNORE, NUM_APPENDED, Examples, lay_out
from legos.systems.recsysllm.settings import RecsysllmConfig
from legos.systems.recsysllm.world import World, open_world

TEXT_TOKENS, TITLE_PROMPT, MOST = 64, "sequential-6", 0.02
_AT_ONCE = 8


@dataclass(frozen=True)
class Way:
    """How the backbone is set up and read."""

    name: str
    starts: Sequence[int | None]
    both_ways: bool = False
    positions: Literal["sequential", "glm"] = "sequential"


@dataclass(frozen=True)
class Cost:
    """Nats a token of plain text and of titles, and of the end of a title."""

    text: float
    title: float
    end: float


def texts_of(world: World, count: int) -> Tensor:
    """The first reviews that are long enough: ``(count, TEXT_TOKENS)`` int64."""
    assert world.families.reviews is not None
    encoded = world.tokenizer.encode_texts(world.families.reviews.bodies)
    enough = (encoded.lengths >= TEXT_TOKENS).nonzero()[:count, 0]
    tokens = encoded.select(enough).head(torch.full_like(enough, TEXT_TOKENS))
    return tokens.values.long().view(-1, TEXT_TOKENS)


def text_examples(tokens: Tensor) -> Examples:
    """The first half of each text as Part A, the second as Part B."""
    count, half = len(tokens), TEXT_TOKENS // 2
    targets = tokens.roll(-1, 1).clone()
    targets[:, : half - 1] = targets[:, -1] = IGNORE
    inter = torch.arange(TEXT_TOKENS).clamp(max=half - 1).repeat(count)
    lengths = torch.full((count,), TEXT_TOKENS)
    return Examples(
        tokens.flatten(), targets.flatten(), inter, torch.zeros_like(inter), offsets_of(lengths),
        torch.full((count,), half),
        from_lengths(torch.full((count,), half - 1), torch.ones(count, dtype=torch.int64)),
    )  # fmt: skip


@torch.no_grad()
def losses_of(backbone: DecoderBackbone, examples: Examples, *, both_ways: bool) -> Tensor:
    """``(M,)`` nats of every target."""
    found = []
    for numbers in torch.arange(len(examples)).split(_AT_ONCE):
        own = examples.select(numbers)
        layout = lay_out(own, pad=backbone.special.pad, bidirectional=both_ways)
        at = (own.targets != IGNORE).nonzero()[:, 0]
        states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)
        found.append(token_losses(backbone, states[layout.slots[at]], own.targets[at]))
    return torch.cat(found)


@torch.no_grad()
def plain_losses(model: Any, rows: Ragged, predicted: Tensor) -> Tensor:
    """The same of transformers' model: the last ``predicted`` ``(N,)`` tokens of each row."""
    found = []
    for number, count in enumerate(predicted.tolist()):
        tokens = rows.row(number)
        logits = model(inputs_embeds=model.get_input_embeddings()(tokens[None])).last_hidden_state
        scores = logits[0, -count - 1 : -1] @ model.get_input_embeddings().weight.T
        found.append(functional.cross_entropy(scores, tokens[-count:], reduction="none"))
    return torch.cat(found)


def cost(model: Any, way: Way, world: World, texts: Tensor, instances: Sequence[Any]) -> Cost:
    """What one way costs."""
    backbone = DecoderBackbone(model, position_mode=way.positions, starts=way.starts).eval()
    text = losses_of(backbone, text_examples(texts), both_ways=way.both_ways).mean()
    titles = world.examples(instances, backbone.special)
    losses = losses_of(backbone, titles, both_ways=way.both_ways)
    is_end = titles.targets[titles.targets != IGNORE] == backbone.special.end
    return Cost(float(text), float(losses[~is_end].mean()), float(losses[is_end].mean()))


def plain_cost(
    model: Any, line: int, world: World, texts: Tensor, instances: Sequence[Any]
) -> Cost:
    """What transformers' own model says; ``line`` is the token that ends a title."""
    half = torch.full((len(texts),), TEXT_TOKENS // 2)
    rows = from_lengths(texts.flatten(), torch.full((len(texts),), TEXT_TOKENS))
    text = plain_losses(model, rows, half).mean()
    special = DecoderBackbone(model).special
    titles = world.examples(instances, special)
    tokens = titles.targets.where(titles.targets != IGNORE, titles.tokens)
    tokens = tokens.masked_fill(tokens == special.end, line)
    kept = tokens != special.mask
    asked = torch.bincount(Ragged(tokens, titles.offsets).rows[titles.targets != IGNORE])
    losses = plain_losses(model, Ragged(tokens, titles.offsets).keep(kept), asked)
    is_end = torch.zeros_like(losses, dtype=torch.bool)
    is_end[asked.cumsum(0) - 1] = True
    return Cost(float(text), float(losses[~is_end].mean()), float(losses[is_end].mean()))


def ways(language: LanguageModel, *, other_starts: bool) -> list[Way]:
    """The default first."""
    starts = start_words(language)
    default = Way("default", starts)
    found = [
        default,
        replace(default, name="both ways", both_ways=True),
        replace(default, name="positions: glm", positions="glm"),
        Way("new tokens as the mean of words", [None] * NUM_APPENDED),
        Way("the same, both ways", [None] * NUM_APPENDED, both_ways=True),
    ]
    if other_starts:
        for text in (",", "<|im_end|>"):
            end = language.tokenizer.encode(text, add_special_tokens=False).ids[-1]
            found.append(Way(f"[END] from {text!r}", [*starts[:-1], end]))
    return found


def print_row(name: str, found: Cost) -> None:
    """One line of the table."""
    print(f"{name:34}{found.text:8.3f}{found.title:8.3f}{found.end:8.3f}", flush=True)


def main() -> None:
    """Print a row a way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--starts", action="store_true")
    given = parser.parse_args()
    settings = RecsysllmConfig.model_validate(
        {"tasks": {"max_past": 6, "horizons": {"by": "count"}}}
    )
    language = LanguageModel(packaged("smollm2"))
    world = open_world(Tables.load(given.data), language, settings, seed=0)
    model = DecoderBackbone(word_model(language, "pretrained")).model.eval()
    texts = texts_of(world, given.texts)
    instances = world.families.users["sequential"].evaluate(
        torch.arange(given.users), TITLE_PROMPT, "test", None
    )
    all_ways = ways(language, other_starts=given.starts)
    line = all_ways[0].starts[-1]
    assert line is not None
    print(f"{len(texts)} reviews, {len(instances)} prompts; nats a token")
    print(f"{'':34}{'text':>8}{'title':>8}{'[END]':>8}")
    plain = plain_cost(model, line, world, texts, instances)
    print_row("transformers", plain)
    costs = []
    for way in all_ways:
        costs.append(cost(model, way, world, texts, instances))
        print_row(way.name, costs[-1])
    default = costs[0]
    finish(
        name="recsysllm_start", ours=vars(default), other=vars(plain),
        ratio=default.text / plain.text, target=f"text within {MOST}",
        holds=abs(default.text - plain.text) <= MOST,
    )  # fmt: skip


if __name__ == "__main__":
    main()
