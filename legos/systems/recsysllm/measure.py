"""Measurement of one prompt on one split: each kind of answer by its own metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from legos.data.ragged import Ragged
from legos.data.sampling import PairSet, keyed_bits
from legos.errors import ConfigError, DataError
from legos.evaluation.rank import NO_ITEM, Best, join_lists
from legos.metrics.generation import candidate_metrics, match_items, rating_errors, text_metrics
from legos.sharing import Sharing
from legos.systems.exact_search import SearchWork, turns
from legos.systems.recsysllm.backbones.decoder import Backbone
from legos.systems.recsysllm.beam_search import rank_entities
from legos.systems.recsysllm.catalogue import ITEM
from legos.systems.recsysllm.decoding import (
    ReadPrompts,
    fill_blanks,
    read_prompts,
    score_candidates,
)
from legos.systems.recsysllm.held_paths import find_entities
from legos.systems.recsysllm.positions import Examples
from legos.systems.recsysllm.prompts import Instance, Prompts, Template
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.candidates import Candidates
from legos.systems.recsysllm.world import World
from legos.systems.trie import NOWHERE, Slot

VALID = "valid item rate"  # of what is written without being constrained
_SUBSET = 75  # key of random numbers
_CUTOFFS = (1, 5, 10)
_SHORT_ANSWER = 8  # tokens of a rating or a word
_MIDDLE = 3.0  # of the stars, where none of these reviews was trained with


class NextItems(NamedTuple):
    """The most likely items of n users.

    Attributes:
        best: lists, the best first.
        valid_rate: share of freely written answers that are an item's name; None: none was written.
    """

    best: Best
    valid_rate: float | None


class PromptMeasure:
    """Measures prompts with one backbone.

    Args:
        backbone: in evaluation mode, on the device.
        offered: ``(J,)`` bool: the catalogue.
        sharing: with which other processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        backbone: Backbone,
        world: World,
        offered: Tensor,
        sharing: Sharing,
    ) -> None:
        self._accelerator, self._backbone, self._world = accelerator, backbone, world
        self._device, self._own = accelerator.device, world.settings.measure
        keys = offered.cpu().nonzero()[:, 0]
        self._items = world.pool.slot(ITEM, space=True, keys=keys).to(self._device)
        self._automaton = world.automaton.to(self._device)
        self._sharing = sharing

    def next_items(
        self,
        template: Template,
        rows: Tensor,
        split: SplitName,
        excluded: Ragged,
        *,
        count: int | None,
    ) -> NextItems:
        """The most likely items among all.

        Args:
            template: whose answer is an item, without candidates.
            rows: ``(n,)`` users, as rows of the sequences.
            excluded: n rows of items that are no answers of the search.
            count: search lists of so many items as a test does, and write an answer freely, too;
                None: lists of ``valid_beams`` beams alone.
        """
        task = self._world.families.users[template.family]

        def search(page: Tensor) -> tuple[Best, list[str]]:
            with self._accelerator.autocast():
                read = self._read(task.evaluate(rows[page], template.name, split))
                if count is None:
                    return self._by_beams(read, excluded.select(page), self._own.valid_beams), []
                best = self._listed(read, excluded.select(page), count)
                return best, self._fill(template, read)[0]

        pages = self._sharing.gathered(torch.arange(len(rows)).split(self._own.batch_size), search)
        texts = [text for _, texts in pages for text in texts]
        best = join_lists([found for found, _ in pages])
        return NextItems(best, None if count is None else self._valid_rate(texts))

    def best_items(self, instances: Sequence[Instance], excluded: Ragged, count: int) -> Best:
        """The most likely items among all, for prompts whose answer is an item.

        Args:
            instances: B prompts.
            excluded: B rows of items that are no answers.
            count: items of a list.

        Returns:
            items, the log-probabilities of their names and what is proven, on the CPU.
        """
        found = []
        for page in torch.arange(len(instances)).split(self._own.batch_size):
            with self._accelerator.autocast():
                read = self._read([instances[at] for at in page.tolist()])
                found.append(self._listed(read, excluded.select(page), count))
        return join_lists(found)

    def scores(self, instances: Sequence[Instance], items: Tensor) -> Tensor:
        """Log-probability of the names of items ``(C,)`` as answers: ``(B, C)`` on the CPU."""
        found, count = [], len(items)
        names = self._world.pool.surfaces(ITEM, items, space=True).to(self._device)
        for begin in range(0, len(instances), self._own.batch_size):
            some = instances[begin : begin + self._own.batch_size]
            owners = torch.arange(len(some), device=self._device).repeat_interleave(count)
            asked = torch.arange(count, device=self._device).repeat(len(some))
            with torch.no_grad(), self._accelerator.autocast():
                listed = names.select(asked)
                read = self._read(some)
                scores = score_candidates(self._backbone, read, listed, owners, self._automaton)
            found.append(scores.view(len(some), count).float().cpu())
        return torch.cat(found)

    def _listed(self, read: ReadPrompts, excluded: Ragged, count: int) -> Best:
        """The most likely items after prompts, by the search of the settings."""
        own = self._own
        if own.search == "beams":
            return self._by_beams(read, excluded, max(count, own.beams)).head(count)
        found = find_entities(
            self._backbone, read, self._items, self._automaton, count=count,
            excluded=excluded.to(self._device),
            work=SearchWork(dive=max(count, own.beams), most_read=own.most_read),
        )  # fmt: skip
        best = listed_items(self._items, found.nodes, found.scores, excluded, count)
        return best._replace(proven=found.proven.cpu())

    def _by_beams(self, read: ReadPrompts, excluded: Ragged, beams: int) -> Best:
        ranked = rank_entities(
            self._backbone, read, self._items, self._automaton,
            num_beams=beams, excluded=excluded.to(self._device),
        )  # fmt: skip
        best = listed_items(self._items, ranked.nodes, ranked.scores, excluded, beams)
        return best._replace(proven=torch.zeros(len(excluded), dtype=torch.int64))

    def candidates(
        self, template: Template, rows: Tensor, split: SplitName, frozen: Candidates
    ) -> dict[str, float]:
        """HR and nDCG of the right one among frozen candidates that the prompt lists.

        Beside them the share of freely written answers that are the name of one in the list.
        """
        task, width = self._world.families.users[template.family], frozen.items.shape[1]

        def score(page: Tensor) -> tuple[np.ndarray, list[str]]:
            items = frozen.items[rows[page]].flatten()
            listed = self._world.pool.surfaces(ITEM, items, space=True).to(self._device)
            owners = torch.arange(len(page), device=self._device).repeat_interleave(width)
            with self._accelerator.autocast():
                read = self._read(task.evaluate(rows[page], template.name, split, frozen))
                scores = score_candidates(self._backbone, read, listed, owners, self._automaton)
                texts = self._fill(template, read)[0]
            return scores.view(len(page), width).float().cpu().numpy(), texts

        pages = self._sharing.gathered(torch.arange(len(rows)).split(self._own.batch_size), score)
        scores = np.concatenate([scores for scores, _ in pages])
        texts = [text for _, texts in pages for text in texts]
        row = candidate_metrics(scores, at=[k for k in _CUTOFFS if k <= width])
        return {**row, VALID: self._valid_rate(texts, frozen.items[rows])}

    def refuse_long_lists(self, template: Template, split: SplitName, frozen: Candidates) -> None:
        """Raise ConfigError where frozen candidates are more than a prompt may list.

        Only the user with the longest names is tried; the past may be dropped, a candidate not.
        """
        task, count = self._world.families.users[template.family], frozen.items.shape[1]
        every = torch.arange(len(self._world.families.catalogue.items))
        lengths = self._world.pool.surfaces(ITEM, every, space=True).lengths  # (J,)
        totals = lengths[frozen.items].sum(1)
        try:
            self._prompts(task.evaluate(totals.argmax()[None], template.name, split, frozen))
        except DataError:
            raise ConfigError(
                f"model.measure.max_tokens: {self._own.max_tokens}, but the {count} candidates of "
                f"a prompt alone have up to {int(totals.max()):,}; raise it, or lower "
                "model.measure.negatives or model.tasks.max_name_words"
            ) from None

    def written(self, instances: Sequence[Instance]) -> tuple[list[str], float]:
        """Fill blanks freely and greedily; also returns the share of complete answers."""

        size = self._own.batch_size

        def fill(begin: int) -> tuple[list[str], int]:
            some = instances[begin : begin + size]
            with self._accelerator.autocast():
                return self._fill(some[0].template, self._read(some))

        pages = self._sharing.gathered(range(0, len(instances), size), fill)
        texts = [text for texts, _ in pages for text in texts]
        return texts, sum(ended for _, ended in pages) / len(instances)

    def mean_ratings(self, instances: Sequence[Instance]) -> list[float]:
        """The mean of all ratings, weighted by their probabilities as answers.

        Numbers are those that training writes: tenths, or whole stars.
        """
        whole = instances[0].template.answer == "whole-stars"
        numbers = [str(n) for n in range(1, 6)] if whole else [f"{n / 10}" for n in range(10, 51)]
        encode = self._world.tokenizer.encode_texts
        listed = encode([f" {number}" for number in numbers]).to(self._device)
        values = torch.tensor([float(number) for number in numbers])
        size, count = self._own.batch_size, len(numbers)

        def mean(begin: int) -> list[float]:
            some = instances[begin : begin + size]
            at = torch.arange(len(some) * count, device=self._device)
            names, owners = listed.select(at % count), at // count
            with self._accelerator.autocast():
                read = self._read(some)
                scores = score_candidates(self._backbone, read, names, owners, self._automaton)
            likely = scores.view(len(some), count).float().softmax(1).cpu()
            found: list[float] = (likely @ values).tolist()
            return found

        pages = self._sharing.gathered(range(0, len(instances), size), mean)
        return [value for page in pages for value in page]

    def _fill(self, template: Template, read: ReadPrompts) -> tuple[list[str], int]:
        """Generate texts, and count those that ended before they ran out of tokens."""
        long = template.free_text or template.answer == "item"
        most = self._world.settings.tasks.max_answer_tokens if long else _SHORT_ANSWER
        filled = fill_blanks(self._backbone, read, self._automaton, max_new=most)
        tokens, decode = filled.tokens.to("cpu"), self._world.tokenizer.decode
        texts = [decode(tokens.row(at).tolist()).strip() for at in range(len(tokens))]
        return texts, int(filled.complete.sum())

    def _valid_rate(self, texts: Sequence[str], listed: Tensor | None = None) -> float:
        """Share of texts that are an item's name; with ``listed`` ``(n, m)``, of these items."""
        names = self._world.families.catalogue.items
        items, rate = match_items([[text] for text in texts], names)
        if listed is None:
            return rate
        pairs = zip(items, listed.tolist(), strict=True)
        return float(np.mean([bool(own) and own[0] in others for own, others in pairs]))

    def _read(self, instances: Sequence[Instance]) -> ReadPrompts:
        both_ways = self._world.settings.backbone.both_ways
        return read_prompts(self._backbone, self._prompts(instances), bidirectional=both_ways)

    def _prompts(self, instances: Sequence[Instance]) -> Examples:
        """Part A on the device; where candidates are listed it may be longer than in training."""
        own = self._world.settings.tasks
        if instances[0].candidates:
            own = own.model_copy(update={"max_tokens": self._own.max_tokens})
        examples = self._world.examples(instances, self._backbone.special, own)
        return examples.prompts().to(self._device)


def listed_items(slot: Slot, nodes: Tensor, scores: Tensor, excluded: Ragged, count: int) -> Best:
    """Results of a search as items; items with the same name are ordered by number.

    Args:
        nodes: ``(B, K)`` int64 of the slot's tree, ``NOWHERE`` where there are fewer.
        scores: ``(B, K)``.
        excluded: B rows of items that are no answers.
        count: of a list.

    Returns:
        on the CPU.
    """
    there = nodes != NOWHERE
    named = slot.entities(nodes[there])
    users = named.spread(there.nonzero()[:, 0]).cpu()
    items, values = named.values.cpu(), named.spread(scores[there]).cpu()
    stride = 1 + int(torch.cat([slot.keys.cpu(), excluded.values.cpu()]).max())
    own = ~PairSet(excluded.rows.cpu(), excluded.values.cpu(), stride).contains(users, items)
    users, items, values = users[own], items[own], values[own]
    turn = turns(users, values, items)
    kept = turn < count
    lists = torch.full((len(nodes), count), NO_ITEM)
    found = torch.full((len(nodes), count), -torch.inf)
    lists[users[kept], turn[kept]] = items[kept]
    found[users[kept], turn[kept]] = values[kept].float()
    return Best(lists, found)


def text_row(world: World, instances: Sequence[Instance], texts: Sequence[str]) -> dict[str, float]:
    """Metrics of generated answers by kind: ratings, words of choice, sentences."""
    answer = instances[0].template.answer
    references = [instance.reference for instance in instances]
    if answer in ("stars", "whole-stars"):
        reviews, trained = world.families.reviews, world.families.origin is None
        errors = rating_errors(
            texts,
            [instance.stars for instance in instances],
            fallback=_MIDDLE if not trained or reviews is None else reviews.train_mean(),
        )
        return {"RMSE": errors.rmse, "MAE": errors.mae, "parse rate": errors.parse_rate}
    if answer in ("verdict", "liking"):
        pairs = zip(texts, references, strict=True)
        return {"accuracy": float(np.mean([text.lower() == wanted for text, wanted in pairs]))}
    return text_metrics(texts, references)


def some_of(rows: Tensor, most: int | None, *, seed: int) -> Tensor:
    """At most so many of ``(n,)`` rows, drawn by the seed, in their order."""
    if most is None or most >= len(rows):
        return rows
    draw = keyed_bits(torch.arange(len(rows)), 1, _SUBSET, seed)[:, 0]
    return rows[draw.argsort()[:most].sort().values]


def chosen_templates(world: World) -> list[Template]:
    """The templates that ``measure.prompts`` names, or two of every family that has data.

    Raises:
        ConfigError: an unknown name, or a family without data.
    """
    families, own = world.families, world.settings.measure
    known = {*families.users, *families.about_reviews}
    if not own.prompts:
        return [each for each in default_templates(families.prompts) if each.family in known]
    chosen = [families.prompts[name] for name in dict.fromkeys(own.prompts)]
    for template in chosen:
        if template.family == "transfer" and families.origin is None:
            raise ConfigError(
                f"model.measure.prompts: {template.name} is about items of another domain than "
                "the trained one; measure a model of other tables: --exp recsysllm-transfer "
                "--load RUN_FOLDER"
            )
        if template.family not in known:
            raise ConfigError(
                f"model.measure.prompts: {template.name} is of family {template.family}, for "
                f"which these tables have no data; they have {', '.join(sorted(known))}"
            )
    return chosen


def default_templates(prompts: Prompts) -> list[Template]:
    """For every family, the held-out template and the last seen one with the same intent.

    Of reviews also the last that asks for a headline, which no held-out one does.
    """
    chosen = []
    for held_out in (template for template in prompts.templates if not template.seen):
        alike = prompts.of(held_out.family, seen=True, intent=held_out.intent)
        alike = [template for template in alike if template.answer == held_out.answer]
        chosen += [*alike[-1:], held_out]
    written = [t for t in prompts.of("review", seen=True) if t.answer == "headline"]
    return [*chosen, *written[-1:]]


def main_template(prompts: Prompts, chosen: Sequence[Template]) -> Template:
    """The template of row `all`: the first seen one of next items among all that was chosen."""
    nexts = [t for t in chosen if t.seen and is_next(t)]
    if nexts:
        return nexts[0]
    return [t for t in prompts.of("sequential", seen=True) if is_next(t)][-1]


def is_next(template: Template) -> bool:
    """Whether a template asks for an item among all."""
    return template.answer == "item" and "candidates" not in template.slots
