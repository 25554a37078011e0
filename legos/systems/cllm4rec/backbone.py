"""The language model: token ids in, hidden states out; users and items are looked up in tables.

Any causal language model of transformers, or an encoder-decoder (T5) whose encoder reads the prompt
and whose decoder the main text (CLLM4Rec, section 3.2 and its T5 variant). What is handed out means
the same for both: *the state at a token predicts the next token*.

The public code runs prompt and main text in two passes with a key-value cache; one pass over both
gives the same states. Positions count tokens, so that padding moves nothing.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from legos.blocks.dropout import Dropout
from legos.data.ragged import Ragged
from legos.data.rows import pack
from legos.errors import ConfigError, DataError
from legos.lm.text_model import longest_text
from legos.systems.cllm4rec.tokenizer import Vocabulary, pad, refuse_outside


class SoftTables(nn.Module):
    """Trained vectors of users and items, as wide as the backbone's token vectors.

    Args:
        vocabulary: how many users and items.
        std: entries are drawn from N(0, std^2) (0.02 in GPT-2; the paper's prior is
            N(0, 1 / lambda_l)).
        generator: draws them; the global one where there is none.

    Attributes:
        user: ``(I, D)`` embedding.
        item: ``(J, D)`` embedding, whose weight is the item head's too.
        log_scale: logarithm of what scores of items are multiplied by, where that learns.
    """

    log_scale: nn.Parameter | None

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        width: int,
        std: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.user = nn.Embedding(vocabulary.users, width, device="meta").to_empty(device="cpu")
        self.item = nn.Embedding(vocabulary.items, width, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for table in (self.user, self.item):
                table.weight.normal_(0.0, std, generator=generator)
        self.register_parameter("log_scale", None)

    def learn_scale(self, initial: float) -> None:
        """Train the factor of item scores with the tables."""
        self.log_scale = nn.Parameter(torch.tensor(initial).log())


class SoftPromptBackbone(nn.Module):
    """A transformer that reads tokens of words, users and items.

    Args:
        model: of transformers, with or without a language-modelling head.
        row_tokens: packed sequences lie in rows of this many tokens.
        temperature: scores of words are divided by it.
        soft_dropout: rate on the vectors of users and items that it reads.
        user_dropout: share of the users of a batch that training reads without their vectors.

    Attributes:
        width: D of token vectors and of states.
        words: N, rows of its token table.
        longest: most tokens of a sequence; None where there is no limit.
        encoder_decoder: whether it is one.
        packs: whether sequences can share a row (it takes position ids).

    Raises:
        ConfigError: token vectors and final states differ in width, or its head does more than a
            matrix product.
    """

    def __init__(
        self,
        model: Any,
        *,
        row_tokens: int = 128,
        temperature: float = 1.0,
        soft_dropout: float = 0.0,
        user_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        _refuse_unusual_head(model)
        self.encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
        head = model.get_output_embeddings()
        table = model.get_input_embeddings().weight
        self.model = model if self.encoder_decoder else model.base_model
        self.head = None if head is None or head.weight is table else head
        self.row_tokens, self.temperature = row_tokens, temperature
        self.soft_dropout, self.user_dropout = Dropout(soft_dropout), Dropout(user_dropout)
        self.words, self.width = table.shape
        output = getattr(model.config, "word_embed_proj_dim", model.config.hidden_size)
        if output != self.width:
            raise ConfigError(
                f"{type(model).__name__}: token vectors are {self.width} wide, final states "
                f"{output}; a backbone's must be equal, for items are scored by their vectors"
            )
        names = inspect.signature(self.model.forward).parameters
        self.packs = not self.encoder_decoder and "position_ids" in names
        self.longest = None if self.encoder_decoder else longest_text(self.model, model.config)

    @property
    def token_table(self) -> Tensor:
        """``(N, D)`` vectors of words."""
        table: Tensor = self.model.get_input_embeddings().weight
        return table

    @property
    def output_table(self) -> Tensor:
        """The head over words ``(N, D)``: the token table, unless the model has its own head."""
        table: Tensor = self.token_table if self.head is None else self.head.weight
        return table

    @property
    def output_scale(self) -> float:
        """Factor of states before the head over words (T5 with a tied table; temperature)."""
        scaled = self.head is None and getattr(self.model.config, "scale_decoder_outputs", False)
        return (float(self.width**-0.5) if scaled else 1.0) / self.temperature

    def embed(self, ids: Tensor, tables: SoftTables) -> Tensor:
        """Embed ids of any shape: rows of the concatenated word, user and item tables.

        Returns:
            the same shape and ``D``, in the dtype of the token table.

        Raises:
            DataError: an id is out of range (on the CPU; a GPU stops with an assertion).
        """
        known = tables.vocabulary
        flat = ids.reshape(-1).long()  # (P,)
        if flat.device.type == "cpu":
            refuse_outside(flat, known.size, "token id")
        vectors: Tensor = self.model.get_input_embeddings()(
            flat.masked_fill(flat >= known.first_user, 0)
        )  # (P, D)
        users = ((flat >= known.first_user) & (flat < known.first_item)).nonzero()[:, 0]
        items = (flat >= known.first_item).nonzero()[:, 0]
        of_users = self._some_hidden(tables, flat[users] - known.first_user)
        soft = torch.cat([of_users, tables.item(flat[items] - known.first_item)])
        soft = self.soft_dropout(soft)
        vectors = vectors.index_put((torch.cat([users, items]),), soft.to(vectors.dtype))
        return vectors.view(*ids.shape, self.width)

    def _some_hidden(self, tables: SoftTables, users: Tensor) -> Tensor:
        """Vectors ``(n, D)`` of users ``(n,)``, zero for dropped users."""
        vectors: Tensor = tables.user(users)
        if not self.training or not self.user_dropout.p:
            return vectors
        distinct, which = users.unique(return_inverse=True)  # hidden wherever a prompt names them
        shown: Tensor = self.user_dropout(vectors.new_ones(len(distinct), 1)) > 0
        return vectors * shown[which]

    def states(self, tokens: Ragged, prompt_lengths: Tensor, tables: SoftTables) -> Tensor:
        """Final hidden states of packed sequences.

        Args:
            tokens: S sequences, each a prompt and its main text.
            prompt_lengths: ``(S,)`` int64, at least 1 each; only an encoder-decoder needs them.

        Returns:
            ``(P, D)``: the state at a token predicts the next one, the state at a sequence's last
            token what follows it.

        Raises:
            DataError: a sequence is longer than the model can read, or an id is out of range.
        """
        vectors = self.embed(tokens.values, tables)  # (P, D)
        if not len(vectors):
            return vectors
        if self.encoder_decoder:
            prompts = Ragged(vectors, tokens.offsets)
            return self._encoder_decoder_states(prompts, prompt_lengths, tables)
        self._refuse_long(int(tokens.lengths.max()))
        if not self.packs:
            ids, real = pad(tokens)
            return self.padded_states(ids, real, tables)[real]
        packed = pack(tokens, self.row_tokens)
        rows = vectors.new_zeros(packed.num_rows * packed.width, self.width)
        rows = rows.index_copy(0, packed.slots, vectors)
        mask: Tensor | None = None
        attention = str(self.model.config._attn_implementation)
        if packed.sequences is not None and "flash" not in attention:  # flash reads positions
            mask = _block_diagonal(packed.sequences, None if attention == "sdpa" else vectors.dtype)
        vectors = rows.view(packed.num_rows, packed.width, self.width)
        states = self._run(vectors, packed.positions, mask)
        return states.reshape(-1, self.width).index_select(0, packed.slots)

    def padded_states(self, ids: Tensor, mask: Tensor, tables: SoftTables) -> Tensor:
        """Final hidden states of padded sequences of a causal model.

        Args:
            ids: ``(B, T)``; whatever stands under the mask must be an id too.
            mask: ``(B, T)``, 1 = a token; padding may stand anywhere.

        Returns:
            ``(B, T, D)``, anything at padding.
        """
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        self._refuse_long(int(mask.sum(1).max()))
        return self._run(self.embed(ids, tables), positions if self.packs else None, mask.long())

    def extend(self, vectors: Tensor, cache: Any) -> Tensor:
        """States of tokens that follow those in a key-value cache; the cache is extended.

        Both vectors and states are ``(B, T, D)``; for the cache see :meth:`new_cache`.
        """
        self._refuse_long(cache.get_seq_length() + vectors.shape[1])
        states: Tensor = self.model(
            inputs_embeds=vectors, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return states

    def new_cache(self) -> Any:
        """An empty key-value cache for :meth:`extend`.

        Raises:
            ConfigError: an encoder reads a prompt as a whole; there is nothing to keep of it.
        """
        from transformers import DynamicCache

        if self.encoder_decoder:
            raise ConfigError("an encoder-decoder keeps no prefix; score whole prompts instead")
        return DynamicCache()  # whole layers even where attention slides, so that it can be cropped

    def _run(self, vectors: Tensor, positions: Tensor | None, mask: Tensor | None) -> Tensor:
        more = {} if positions is None else {"position_ids": positions}
        states: Tensor = self.model(
            inputs_embeds=vectors, attention_mask=mask, use_cache=False, **more
        ).last_hidden_state
        return states

    def _encoder_decoder_states(
        self, packed: Ragged, prompt_lengths: Tensor, tables: SoftTables
    ) -> Tensor:
        """The encoder's states in the prompt, but from its last token on the decoder's."""
        is_main = packed.positions >= prompt_lengths[packed.rows]  # (P,)
        prompt, prompt_mask = pad(packed.keep(~is_main))  # (S, Q, D), (S, Q)
        main, main_mask = pad(packed.keep(is_main))
        config = self.model.config
        first = getattr(config, "decoder_start_token_id", None)
        first = config.pad_token_id if first is None else first
        start = torch.full((len(packed), 1), first, device=prompt_lengths.device)
        main = torch.cat([self.embed(start, tables), main], 1)  # (S, 1 + T, D)
        decoder_mask = torch.cat([torch.ones_like(start, dtype=torch.bool), main_mask], 1)
        encoded = self.model.encoder(
            inputs_embeds=prompt, attention_mask=prompt_mask.long()
        ).last_hidden_state
        decoded: Tensor = self.model.decoder(
            inputs_embeds=main,
            attention_mask=decoder_mask.long(),
            encoder_hidden_states=encoded,
            encoder_attention_mask=prompt_mask.long(),
            use_cache=False,
        ).last_hidden_state
        predicts = packed.positions >= prompt_lengths[packed.rows] - 1
        last = torch.zeros_like(prompt_mask).scatter_(1, prompt_lengths[:, None] - 1, True)
        states = decoded.new_empty(packed.values.shape)
        states = states.index_put((~predicts,), encoded[prompt_mask & ~last])
        return states.index_put((predicts,), decoded[decoder_mask])

    def _refuse_long(self, length: int) -> None:
        if self.longest is not None and length > self.longest:
            raise DataError(
                f"a sequence of {length} tokens; {type(self.model).__name__} reads at most "
                f"{self.longest} (max_length cuts before that)"
            )


def _block_diagonal(sequences: Tensor, additive: torch.dtype | None) -> Tensor:
    """Mask of earlier tokens of the same sequence, ``(R, W)`` -> ``(R, 1, W, W)``.

    A prepared mask, for transformers builds one from position ids for some models and for others
    (OPT) lets the sequences of a row see each other. ``additive``: the dtype of a mask that is
    added to scores; None: a bool one.
    """
    width = sequences.shape[1]
    same = sequences[:, None, :, None] == sequences[:, None, None, :]
    allowed = same & torch.ones(width, width, dtype=torch.bool, device=same.device).tril()
    if additive is None:
        return allowed
    zeros = torch.zeros(allowed.shape, dtype=additive, device=same.device)
    return zeros.masked_fill_(~allowed, torch.finfo(additive).min)


def _refuse_unusual_head(model: Any) -> None:
    config, head = model.config, model.get_output_embeddings()
    unusual = {
        "a bias": getattr(head, "bias", None) is not None,
        "a soft cap": bool(getattr(config, "final_logit_softcapping", None)),
        "a scale": getattr(config, "logit_scale", None) not in (None, 1.0),
    }
    for what, is_there in unusual.items():
        if is_there:
            raise ConfigError(
                f"{type(model).__name__}: its head over words has {what}, which CLLM4Rec's losses "
                "leave out; choose GPT-2, LLaMA, OPT, Qwen or T5"
            )
