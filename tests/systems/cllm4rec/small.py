"""Small random backbones of five families, a word tokenizer, and a planted world."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from legos.data.ragged import Ragged, from_lengths
from legos.systems.cllm4rec.backbone import SoftPromptBackbone, SoftTables
from legos.systems.cllm4rec.batches import Templates
from legos.systems.cllm4rec.model import Cllm4Rec, prepare_backbone
from legos.systems.cllm4rec.settings import Cllm4RecConfig, SoftPromptSettings
from legos.systems.cllm4rec.tokenizer import SoftTokenizer, Vocabulary

WORDS = 97
CAUSAL = ("gpt2", "llama", "opt", "qwen2", "untied")
FAMILIES = (*CAUSAL, "t5")
_SENTENCES = (
    "has interacted with will interact the user : wrote writes following review for The title "
    "brand description categories content biography of is are explains "
    "reason purchasing ,"
)
_SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": 0.1,  # else random layers hardly mix and a wrong mask would go unseen
}
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2LMHeadModel", {}),
    "llama": ("LlamaModel", {"num_key_value_heads": 2}),
    "opt": ("OPTModel", {"ffn_dim": 32, "word_embed_proj_dim": 8, "init_std": 0.1}),
    "qwen2": ("Qwen2Model", {"num_key_value_heads": 2}),
    "untied": ("LlamaForCausalLM", {"tie_word_embeddings": False}),
    "t5": (
        "T5Model",
        {"d_kv": 4, "d_ff": 32, "num_decoder_layers": 3, "decoder_start_token_id": 0},
    ),
}


def small_model(family: str, *, seed: int = 0, **more: Any) -> Any:
    """A random model of transformers in evaluation mode."""
    name, own = _KINDS[family]
    kind = getattr(transformers, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(kind.config_class(**{**_SMALL, **own, **more}))
    return model.eval()


def small_backbone(
    family: str = "gpt2", *, row_tokens: int = 24, train: str = "frozen", **more: Any
) -> SoftPromptBackbone:
    settings = SoftPromptSettings.model_validate({"row_tokens": row_tokens, "train": train})
    return prepare_backbone(small_model(family, **more), settings)


def word_tokenizer() -> Tokenizer:
    """One token a word of the prompts, row 0 for all others."""
    words = ["?", *dict.fromkeys(_SENTENCES.split())]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(words)}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def small_templates(users: int, items: int, *, wording: Any = "public_code") -> Templates:
    vocabulary = Vocabulary(WORDS, users, items)
    return Templates(SoftTokenizer(word_tokenizer(), vocabulary), wording=wording)


def small_cllm4rec(
    settings: Cllm4RecConfig,
    *,
    users: int,
    items: int,
    family: str = "gpt2",
    seed: int = 0,
    std: float = 0.1,
    **more: Any,
) -> Cllm4Rec:
    backbone = small_backbone(family, **more)
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary(WORDS, users, items)
    sides = [
        SoftTables(vocabulary, width=backbone.width, std=std, generator=generator)
        for _ in range(1 + settings.content.enabled)
    ]
    return Cllm4Rec(
        backbone=backbone,
        collaborative=sides[0],
        content=sides[1] if settings.content.enabled else None,
        settings=settings,
    ).eval()


def ragged(rows: list[list[int]]) -> Ragged:
    """Lists as packed int64 rows."""
    values = torch.tensor([value for row in rows for value in row], dtype=torch.int64)
    return from_lengths(values, torch.tensor([len(row) for row in rows]))


def lists(rows: Ragged) -> list[list[int]]:
    """Packed rows as lists."""
    offsets = rows.offsets.tolist()
    return [rows.values[a:b].tolist() for a, b in pairwise(offsets)]


def random_sequences(vocabulary: Vocabulary, lengths: list[int], *, seed: int = 0) -> Ragged:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, vocabulary.size, (sum(lengths),), generator=generator)
    return from_lengths(values, torch.tensor(lengths))
