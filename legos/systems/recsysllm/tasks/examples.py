"""From filled templates to columns: a prompt, one mask token, and the answer that fills it.

RecSysLLM trains on prompts too: the answer is the only blank, at the end. Which mask token stands
for it says what kind of answer is asked for: [MASK] for ratings, words of choice and items, [sMASK]
for sentences and headlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

import torch
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths
from legos.systems.recsysllm.positions.masking import ENTITY, SENTENCE, Blanks
from legos.systems.recsysllm.prompts import Prompts, Template
from legos.systems.recsysllm.task_settings import AROUND_ANSWER, TaskSettings
from legos.systems.recsysllm.units import Documents, Unit, UnitTokenizer

NOBODY = -1


@dataclass(frozen=True)
class Instance:
    """A template, filled.

    Attributes:
        template: which.
        prompt: units of Part A before the mask.
        answer: units of Part B.
        reference: answer as text.
        user, item: what it is about; ``NOBODY`` where none. In sequential and direct tasks the item
            is the one asked for or offered.
        stars: true rating, NaN where there is none.
        candidates: items to choose from, in the order shown.
    """

    template: Template
    prompt: Sequence[Unit]
    answer: Sequence[Unit]
    reference: str
    user: int = NOBODY
    item: int = NOBODY
    stars: float = nan
    candidates: tuple[int, ...] = ()
    shown: tuple[int, ...] = field(default=())
    """Every item that the prompt or the answer names, for checks."""


@dataclass(frozen=True)
class TaskExamples:
    """N examples as columns.

    Attributes:
        documents: prompt, then answer.
        blanks: one a document: its answer.
        templates: ``(N,)`` int64 number of the template.
        users, items: ``(N,)`` int64, -1 where none.
        stars: ``(N,)`` float32, NaN where none.
        candidates: N rows of items to choose from.
        references: N answers as text.
    """

    documents: Documents
    blanks: Blanks
    templates: Tensor
    users: Tensor
    items: Tensor
    stars: Tensor
    candidates: Ragged
    references: list[str]

    def __len__(self) -> int:
        return len(self.references)


def build_task_examples(
    instances: Sequence[Instance],
    tokenizer: UnitTokenizer,
    prompts: Prompts,
    settings: TaskSettings,
) -> TaskExamples:
    """Tokenize filled templates.

    The oldest events of a prompt that is too long go first, then wrong candidates of training, then
    ends of its texts; of too long sentences in answers the end goes.

    Args:
        instances: N.
        tokenizer: of the backbone.
        prompts: where their templates are numbered.
        settings: ``max_tokens`` and ``max_answer_tokens`` count.

    Raises:
        DataError: what may not be dropped is too long.
    """
    answers = tokenizer.encode([instance.answer for instance in instances])
    answers = answers.truncated(settings.max_answer_tokens)
    room = settings.max_tokens - settings.max_answer_tokens - AROUND_ANSWER
    asked = tokenizer.encode([instance.prompt for instance in instances]).truncated(room)
    documents = asked.followed_by(answers)
    begins, lengths = asked.tokens.lengths, documents.tokens.lengths
    ranges = torch.stack([begins, lengths], 1)  # (N, 2)
    levels = [SENTENCE if i.template.free_text else ENTITY for i in instances]
    ones = torch.ones(len(instances), dtype=torch.int64)
    shown = [len(instance.candidates) for instance in instances]
    flat = [item for instance in instances for item in instance.candidates]
    numbers = {template.name: row for row, template in enumerate(prompts.templates)}
    return TaskExamples(
        documents=documents,
        blanks=Blanks(from_lengths(ranges, ones), torch.tensor(levels, dtype=torch.int64)),
        templates=_column([numbers[instance.template.name] for instance in instances]),
        users=_column([instance.user for instance in instances]),
        items=_column([instance.item for instance in instances]),
        stars=torch.tensor([instance.stars for instance in instances], dtype=torch.float32),
        candidates=from_lengths(_column(flat), _column(shown)),
        references=[instance.reference for instance in instances],
    )


def _column(values: Sequence[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)
