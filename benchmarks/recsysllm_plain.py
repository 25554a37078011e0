"""RecSysLLM's scoring, search and training step as one would write them down with transformers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.positions import SpecialTokens


class Title(NamedTuple):
    """Tokens, and their log-probability with [END]."""

    tokens: tuple[int, ...]
    score: float


class PrefixTree:
    """Token sequences in nested dictionaries, read from the root at every question.

    Args:
        sequences: to hold.
        end: token after each; None: ends are not marked.
    """

    def __init__(self, sequences: Sequence[Sequence[int]], end: int | None = None) -> None:
        self.root: dict[int, Any] = {}
        for sequence in sequences:
            at = self.root
            for token in sequence:
                at = at.setdefault(token, {})
            if end is not None:
                at[end] = {}

    def next(self, prefix: Sequence[int]) -> list[int]:
        """The tokens that may follow; none after what is in no sequence."""
        at = self.root
        for token in prefix:
            if token not in at:
                return []
            at = at[token]
        return list(at)

    def numbers(self, tokens: Sequence[int]) -> list[int]:
        """Intra-positions of the tokens of a blank: they count while an entity goes on."""
        found: list[int] = []
        at: dict[int, Any] | None = self.root
        for place, token in enumerate(tokens):
            if place == 0:
                found.append(2)  # [START] is 1
                at = self.root.get(token)
            elif at is not None and token in at:
                found.append(found[-1] + 1)
                at = at[token]
            else:
                found.append(1)
                at = self.root.get(token)
        return found


def never_written(special: SpecialTokens) -> Tensor:
    """Masks and [START]: ``(4,)`` int64."""
    return torch.tensor([*special.masks, special.start])


class PlainScorer:
    """One forward a candidate: prompt, [START] and its tokens.

    Args:
        backbone: whose weights.
        tree: of all surfaces of all entities.
    """

    def __init__(self, backbone: DecoderBackbone, tree: PrefixTree) -> None:
        self.model, self.special, self.tree = backbone.model, backbone.special, tree
        self.table = torch.cat([backbone.token_table, backbone.new_tokens]).detach()
        self.intra = backbone.intra.table.weight.detach()

    @torch.no_grad()
    def score(self, prompt: Tensor, prompt_intra: Tensor, candidate: Sequence[int]) -> float:
        """Log-probability of a candidate and [END] after a prompt ``(A,)``."""
        own = prompt.new_tensor([self.special.start, *candidate])
        intra = prompt.new_tensor([1, *self.tree.numbers(candidate)])
        ids, numbers = torch.cat([prompt, own]), torch.cat([prompt_intra, intra])
        mask = torch.ones(len(ids), len(ids), dtype=torch.bool, device=ids.device).tril()
        mask[:, : len(prompt)] = True  # the prompt sees all of itself
        states = self.model(
            inputs_embeds=(self.table[ids] + self.intra[numbers])[None],
            position_ids=torch.arange(len(ids), device=ids.device)[None],
            attention_mask=mask[None, None],
            use_cache=False,
        ).last_hidden_state[0, len(prompt) :]
        scores = (states @ self.table.T).index_fill(
            -1, never_written(self.special).to(ids.device), -torch.inf
        )
        log_probabilities = scores.log_softmax(-1)  # (candidate + 1, V)
        targets = prompt.new_tensor([*candidate, self.special.end])
        return float(log_probabilities.gather(1, targets[:, None]).sum())


class PlainSearch:
    """transformers' beam search, told by a function what may follow.

    Args:
        backbone: whose weights; its table of intra-positions must be zeros, since ``generate`` has
            no second position.
        titles: what may be written.
    """

    def __init__(self, backbone: DecoderBackbone, titles: Sequence[Sequence[int]]) -> None:
        from transformers import AutoModelForCausalLM

        self.special = backbone.special
        self.tree = PrefixTree(titles, self.special.end)
        self.longest = max(map(len, titles))
        table = torch.cat([backbone.token_table, backbone.new_tokens]).detach()
        config = deepcopy(backbone.model.config)
        config.vocab_size, config.tie_word_embeddings = len(table), True
        self.model: Any = AutoModelForCausalLM.from_config(config).eval().to(table.device)
        weights = {name: value for name, value in backbone.model.state_dict().items()
                   if "embed_tokens" not in name}  # fmt: skip
        self.model.base_model.load_state_dict(weights, strict=False)
        self.model.get_input_embeddings().weight.data.copy_(table)
        assert self.model.lm_head.weight is self.model.get_input_embeddings().weight
        never = never_written(self.special).to(table.device)
        self.model.lm_head.register_forward_hook(
            lambda _, __, scores: scores.index_fill(-1, never, -torch.inf)
        )

    @torch.no_grad()
    def search(self, prompts: Sequence[Tensor], beams: int) -> list[list[Title]]:
        """Titles and scores of each prompt, the best first."""
        width = 1 + max(map(len, prompts))
        ids = prompts[0].new_full((len(prompts), width), self.special.pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            own = torch.cat([prompt, prompt.new_tensor([self.special.start])])
            ids[row, width - len(own) :], mask[row, width - len(own) :] = own, 1

        def allowed(_: int, written: Tensor) -> list[int]:
            return self.tree.next(written[width:].tolist()) or [self.special.end]

        out = self.model.generate(
            ids, attention_mask=mask, num_beams=beams, num_return_sequences=beams, do_sample=False,
            length_penalty=0.0, early_stopping=False, max_new_tokens=self.longest + 1,
            eos_token_id=self.special.end, pad_token_id=self.special.pad,
            prefix_allowed_tokens_fn=allowed, output_scores=True, return_dict_in_generate=True,
        )  # fmt: skip
        none = (self.special.pad, self.special.end)
        found = [
            Title(tuple(t for t in row[width:].tolist() if t not in none), float(score))
            for row, score in zip(out.sequences, out.sequences_scores, strict=True)
        ]
        return [found[row * beams : (row + 1) * beams] for row in range(len(prompts))]


def bare_step(
    backbone: DecoderBackbone, tokens: Tensor, predicted: Tensor, width: int, batch_tokens: int
) -> int:
    """Forward and backward of the backbone alone over full rows, and a plain head.

    Args:
        backbone: whose language model, adapters included.
        tokens: ``(P,)`` int64.
        predicted: ``(P,)`` bool, which tokens are predicted.
        width: tokens a row; a last row that is not full is left out.
        batch_tokens: read at once.

    Returns:
        how many tokens were read.
    """
    words: nn.Embedding = backbone.model.get_input_embeddings()
    rows = tokens.clamp(max=backbone.words - 1)[: len(tokens) // width * width].view(-1, width)
    asked = predicted[: rows.numel()].view(-1, width)
    for part, wanted in zip(
        rows.split(max(1, batch_tokens // width)),
        asked.split(max(1, batch_tokens // width)),
        strict=True,
    ):
        vectors = words(part).detach().requires_grad_(True)
        states = backbone.model(inputs_embeds=vectors, use_cache=False).last_hidden_state
        chosen = states[wanted]
        logits = chosen @ backbone.token_table.T
        functional.cross_entropy(logits.float(), part[wanted]).backward()
    return rows.numel()
