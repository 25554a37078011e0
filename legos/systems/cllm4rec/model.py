"""The complete CLLM4Rec: one backbone, two sets of tables, three kinds of step, two of scoring.

In each step only one set of tables learns; the other is a constant it is pulled towards
(CLLM4Rec, section 3.4.3).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.adapt import choose_trained
from legos.lm.load import LanguageModel
from legos.lm.word_model import keep_layers, word_model
from legos.systems.cllm4rec.backbone import SoftPromptBackbone, SoftTables
from legos.systems.cllm4rec.batches import PromptBatch, Templates
from legos.systems.cllm4rec.losses import (
    LossParts,
    multinomial_likelihood,
    mutual_distance,
    next_token_likelihood,
    predicted_positions,
    prior_penalty,
)
from legos.systems.cllm4rec.settings import Cllm4RecConfig, SoftPromptSettings
from legos.systems.cllm4rec.tokenizer import SoftTokenizer, Vocabulary

Side = Literal["collaborative", "content"]


class Cllm4Rec(nn.Module):
    """The assembled model.

    Args:
        backbone: shared by all steps.
        collaborative: tables l, for interactions and recommendation.
        content: tables c, for texts; None where content is off (LLM-CF).
    """

    def __init__(
        self,
        *,
        backbone: SoftPromptBackbone,
        collaborative: SoftTables,
        content: SoftTables | None,
        settings: Cllm4RecConfig,
    ) -> None:
        super().__init__()
        self.backbone, self.settings = backbone, settings
        self.collaborative, self.content = collaborative, content
        self._scale = initial_item_scale(backbone, settings)
        if settings.item_scale == "learned":
            collaborative.learn_scale(self._scale)

    @property
    def item_head(self) -> Tensor:
        """The head over items ``(J, D)``: the collaborative item table itself, without a bias."""
        return self.collaborative.item.weight

    @property
    def item_scale(self) -> Tensor | float:
        """Factor of item scores."""
        learned = self.collaborative.log_scale
        return self._scale if learned is None else learned.exp()

    def learning(self, side: Side) -> dict[str, nn.Parameter]:
        """Weights trained in a step, by name: a side's tables, and the backbone's trained ones."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and name.split(".")[0] in (side, "backbone")
        }

    def forward(self, batch: PromptBatch, task: str, *, mutual: bool = True) -> LossParts:
        """Compute the parts of a batch's loss.

        Args:
            batch: prompts and main texts; in recommendation with targets.
            task: ``collaborative``: a softmax over items at each item (section 3.3); ``content``:
                over words at each word (section 3.4); ``recommendation``: the multinomial loss of
                masked prompts (section 3.5).
            mutual: whether texts are pulled; off in warm-up, where the collaborative tables are
                still random.
        """
        if task == "collaborative":
            return self._language_step(batch, self.collaborative, self.content)
        if task == "content":
            if self.content is None:
                raise ConfigError("content step: content is off, there are no content tables")
            return self._language_step(batch, self.content, self.collaborative if mutual else None)
        if batch.targets is None:
            raise ConfigError("recommendation step: the batch has no targets")
        likelihood = multinomial_likelihood(self.scores(batch), batch.targets)
        return self._parts(batch, likelihood, len(batch), self.collaborative, self.content)

    def count(self, batch: PromptBatch, task: str) -> int:
        """The divisor of a batch's mean: predicted tokens, or users in finetuning."""
        return len(batch) if task == "recommendation" else len(self._predicted(batch))

    def scores(self, batch: PromptBatch) -> Tensor:
        """Scores of all items from the last token of each prompt, fp32 ``(S, J)``.

        Of prompts without a suffix they are the item language model's next item (LLM-PreRec).
        """
        states = self.backbone.states(batch.tokens, batch.prompt_lengths, self.collaborative)
        return self.item_scores(states.index_select(0, batch.tokens.offsets[1:] - 1))

    def item_scores(self, states: Tensor) -> Tensor:
        """``(..., D)`` -> fp32 ``(..., J)``, under autocast too: 16 bits make items equal."""
        with torch.autocast(states.device.type, enabled=False):
            return (states.float() * self.item_scale) @ self.item_head.float().T

    def _language_step(
        self, batch: PromptBatch, own: SoftTables, other: SoftTables | None
    ) -> LossParts:
        tokens, positions = batch.tokens, self._predicted(batch)
        states = self.backbone.states(tokens, batch.prompt_lengths, own)
        if own is self.collaborative:
            with torch.autocast(states.device.type, enabled=False):  # as item_scores
                first, table = own.vocabulary.first_item, own.item.weight
                states = states.float() * self.item_scale
                likelihood = next_token_likelihood(states, tokens, positions, table, first=first)
        else:
            states, table = states * self.backbone.output_scale, self.backbone.output_table
            likelihood = next_token_likelihood(states, tokens, positions, table)
        return self._parts(batch, likelihood, len(positions), own, other)

    def _predicted(self, batch: PromptBatch) -> Tensor:
        return predicted_positions(
            batch.tokens, batch.prompt_lengths, score_first_main=self.settings.score_first_main
        )

    def _parts(
        self,
        batch: PromptBatch,
        likelihood: Tensor,
        count: int,
        own: SoftTables,
        other: SoftTables | None,
    ) -> LossParts:
        users, items, mutual = batch.counted_users, batch.counted_items, self.settings.mutual
        distance = prior = likelihood.new_zeros(())
        if other is not None and mutual.weight:
            distance = mutual_distance(own, other, users, items, reduction=mutual.reduction)
        if own is self.collaborative and mutual.prior:
            prior = prior_penalty(own, users, items)
        return LossParts(likelihood, count, distance, prior)


class Assembled(NamedTuple):
    """A model on the CPU in evaluation mode, with its tokenizer."""

    model: Cllm4Rec
    tokenizer: SoftTokenizer
    templates: Templates


def build_cllm4rec(
    language: LanguageModel, settings: Cllm4RecConfig, *, users: int, items: int, seed: int = 0
) -> Assembled:
    """Build a new model over a language model, for a number of users and items.

    ``seed`` decides tables, random weights and adapters.

    Raises:
        ConfigError: see :func:`build_backbone`; or the language model's tokenizer is not its own.
    """
    backbone = build_backbone(language, settings.backbone, seed=seed)
    vocabulary, own = Vocabulary(backbone.words, users, items), settings.tokenizer
    tokenizer = SoftTokenizer(
        language.tokenizer, vocabulary, strict=own.strict, word_boundary=own.word_boundary
    )
    generator, std = torch.Generator().manual_seed(seed), soft_std(backbone, settings)

    def tables() -> SoftTables:
        return SoftTables(vocabulary, width=backbone.width, std=std, generator=generator)

    collaborative, content = tables(), tables() if settings.content.enabled else None
    model = Cllm4Rec(
        backbone=backbone, collaborative=collaborative, content=content, settings=settings
    )
    return Assembled(model.eval(), tokenizer, Templates(tokenizer, wording=settings.wording))


def build_backbone(
    language: LanguageModel, settings: SoftPromptSettings, *, seed: int = 0
) -> SoftPromptBackbone:
    """Load a language model and prepare it; ``seed`` decides random weights and adapters.

    Raises:
        ConfigError: its files are missing, it has fewer layers than are to be kept, it cannot be a
            backbone, or it is no causal language model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = prepare_backbone(word_model(language, settings.init), settings)
        refuse_look_ahead(backbone, language.name)
        return backbone


@torch.no_grad()
def refuse_look_ahead(backbone: SoftPromptBackbone, name: str) -> None:
    """Raise ConfigError if states depend on later tokens: BERT would see what it predicts."""
    if backbone.encoder_decoder:
        return
    parameter = backbone.token_table
    vectors = torch.randn(1, 3, backbone.width, generator=torch.Generator().manual_seed(0))
    vectors = vectors.to(parameter)
    other = vectors.clone()
    other[:, -1] += 1
    before, changed = (
        backbone.model.eval()(inputs_embeds=each).last_hidden_state for each in (vectors, other)
    )
    if not torch.equal(before[:, :-1], changed[:, :-1]):
        raise ConfigError(
            f"language model {name!r} ({backbone.model.config.model_type}) sees later tokens, so "
            "it cannot predict them; choose GPT-2, LLaMA, OPT, Qwen or T5"
        )


def prepare_backbone(model: Any, settings: SoftPromptSettings) -> SoftPromptBackbone:
    """Cut a transformers model and choose its trained weights, in place.

    Raises:
        ConfigError: it has fewer layers than are to be kept, or it cannot be a backbone.
    """
    if settings.layers is not None:
        keep_layers(model, settings.layers, cut=settings.cut)
    backbone = SoftPromptBackbone(
        model,
        row_tokens=settings.row_tokens,
        temperature=settings.temperature,
        soft_dropout=settings.soft_dropout,
        user_dropout=settings.user_dropout,
    )
    choose_trained(backbone.model, settings)
    if backbone.head is not None and settings.train != "full":
        backbone.head.requires_grad_(False)
    return backbone


def initial_item_scale(backbone: SoftPromptBackbone, settings: Cllm4RecConfig) -> float:
    """Initial factor of item scores."""
    scaled = backbone.encoder_decoder and settings.item_scale in ("auto", "learned")
    inverse = scaled or settings.item_scale == "inverse_sqrt_width"
    return float(backbone.width**-0.5) if inverse else 1.0


def soft_std(backbone: SoftPromptBackbone, settings: Cllm4RecConfig) -> float:
    """Standard deviation of fresh users and items."""
    if isinstance(settings.soft_init, float):
        return settings.soft_init
    config = backbone.model.config
    std = getattr(config, "initializer_range", getattr(config, "init_std", None))
    if settings.soft_init == "token_table" or std is None:
        return float(backbone.token_table.detach().float().std())
    return float(std)
