"""Small random documents, tokenizers and backbones for the tests of RecSysLLM's core.

What is proven where:

    units tokenized alone, entities in the pool, no merged ``),``     test_units
    truncation keeps entities whole, |A| + |B| within the limit       test_units, test_masking,
                                                                      test_task_examples
    horizons 10/30/60, nothing held out, chronological                test_horizons
    splits of the reviews: nothing held out; 80/10/10                 test_tasks
    no split entity, disjoint, non-adjacent, lengths, sentences       test_masking
    reconstruction, as many masks as [START]s and [END]s              test_positions
    blanks in order; shuffled: the same ones                          test_positions
    [END] never an input, [START] never a target, number of targets   test_positions
    E1 to E5; mode glm equals GLM's algorithm                         test_positions
    inter of B at its mask, inter of A counts, intra of A             test_positions
    table of the automaton; training equals inference; equals gold    test_automaton
    beams gathered equal beams replayed                               test_automaton
    perturbations show who attends to whom                            test_backbones
    eager equals sdpa; what must raise                                test_backbones
    filling with a cache equals one forward, padding on both sides    test_decoding
    padding never gives NaN                                           test_backbones
    a fresh adapter is the model it was, with LoRA too                test_backbones
    parameter counts, special ids                                     test_glm
    shards, hub layouts, ChatGLM's heads                              test_glm
    save, load, merge                                                 test_glm
    beam search with enough beams equals brute force                  test_decoding
    only items, items that begin others, early stop                   test_decoding
    the exact search equals full enumeration; proven ranks are        test_exact_search
    packed scores equal single ones                                   test_decoding
    legacy BLEU and ROUGE                                             test_generation_metrics
    HR, nDCG and MRR of lists                                         test_generation_metrics
    bounds; on every row of a run                                     test_generation_metrics,
                                                                      test_evaluate
    ratings parsed                                                    test_generation_metrics
    determinism of tasks, candidates and negatives                    test_tasks, test_candidates
    kills in every phase                                              test_recsysllm_run
    the ablation's rows                                               test_ablation
    other tables than those trained on                                test_transfer
    GLMs as they are published                                        test_glm_run
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from legos.data.ragged import Ragged, from_lengths
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone, PositionRows
from legos.systems.recsysllm.backbones.glm import GlmBackbone, GlmConfig
from legos.systems.recsysllm.masking import ENTITY, Blanks, sample_blanks
from legos.systems.recsysllm.positions import IGNORE, Examples, SpecialTokens, build_examples
from legos.systems.recsysllm.settings import MaskingSettings, PositionSettings
from legos.systems.recsysllm.units import Documents
from legos.systems.trie import build_trie

SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[3] / "shared")) / "data"
WORDS = 60
SPECIAL = SpecialTokens(60, 61, 62, 63, 64, pad=0, cls=65)
FAMILIES = ("glm", "chatglm", "llama", "gpt2")


def ragged(rows: list[list[int]]) -> Ragged:
    values = torch.tensor([value for row in rows for value in row], dtype=torch.int64)
    return from_lengths(values, torch.tensor([len(row) for row in rows], dtype=torch.int64))


def byte_tokenizer(*merges: tuple[str, str]) -> Tokenizer:
    """A byte-level BPE with few merges."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: row for row, letter in enumerate(letters)}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def random_documents(
    count: int, *, seed: int = 0, units: tuple[int, int] = (2, 14), plain_only: bool = False
) -> Documents:
    """Entities of 1 to 6 tokens 10..29, plain units of 1 to 4 tokens 30..59, some of them ends."""
    numbers = np.random.default_rng(seed)
    lengths, entity, tokens, owners = [], [], [], [0]
    for _ in range(count):
        for _ in range(int(numbers.integers(*units))):
            is_entity = bool(numbers.random() < 0.5) and not plain_only
            length = int(numbers.integers(1, 7 if is_entity else 5))
            tokens.extend(numbers.integers(*((10, 30) if is_entity else (30, 60)), length).tolist())
            lengths.append(length)
            entity.append(is_entity)
        owners.append(len(lengths))
    is_entity = torch.tensor(entity)
    return Documents(
        units=from_lengths(torch.tensor(tokens, dtype=torch.int32), torch.tensor(lengths)),
        offsets=torch.tensor(owners),
        is_entity=is_entity,
        ends_sentence=~is_entity & torch.from_numpy(numbers.random(len(lengths)) < 0.4),
        events=torch.full((len(lengths),), -1),
    )


def chosen(documents: Documents, numbers: list[int]) -> Documents:
    return documents.take(documents.numbers.select(torch.tensor(numbers)))


def spans_of(examples: Examples) -> Tensor:
    """``(P,)`` which blank of its example a token fills, -1 in Part A."""
    begun = (examples.tokens == SPECIAL.start).long().cumsum(0)
    before = begun[examples.offsets[:-1]].repeat_interleave(examples.lengths)
    return (begun - before - 1).masked_fill(examples.targets == IGNORE, -1)


def drawn(documents: Documents, *, seed: int = 0, epoch: int = 0, **settings: Any) -> Blanks:
    rows = torch.arange(len(documents))
    own = MaskingSettings(**settings)
    return sample_blanks(documents, rows, own, seed=seed, epoch=epoch, max_tokens=1024)


def automaton_of(documents: Documents, settings: PositionSettings) -> Automaton:
    entities = documents.units.select(documents.is_entity.nonzero()[:, 0])
    return Automaton(build_trie(entities), settings)


def with_answers(
    documents: Documents, answers: list[list[int]], special: Any, automaton: Any
) -> Examples:
    """Prompts of the documents' tokens, a blank at the end filled with the answers."""
    tokens = documents.tokens
    whole = [tokens.select(torch.tensor([row])).values.tolist() for row in range(len(documents))]
    units, kinds, owners = [], [], [0]
    for row, answer in zip(whole, answers, strict=True):
        units += [[token] for token in row] + [answer]
        kinds += [False] * len(row) + [True]
        owners.append(len(units))
    entity = torch.tensor(kinds)
    own = Documents(
        Ragged(ragged(units).values.int(), ragged(units).offsets), torch.tensor(owners), entity,
        torch.zeros_like(entity), torch.full((len(units),), -1),
    )  # fmt: skip
    spans = torch.tensor([[len(r), len(r) + len(a)] for r, a in zip(whole, answers, strict=True)])
    blanks = Blanks(
        from_lengths(spans, torch.ones(len(whole), dtype=torch.int64)),
        torch.full((len(whole),), ENTITY),
    )
    return build_examples(own, blanks, special, PositionSettings(), automaton)


def prompts_of(backbone: Any, documents: Documents, automaton: Automaton) -> Examples:
    """Prompts of the documents' tokens that end with a blank."""
    answers = [[10]] * len(documents)
    return with_answers(documents, answers, backbone.special, automaton).prompts()


def small_llama(*, attention: str = "sdpa", words: int = WORDS, **more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": words, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 256,
        "initializer_range": 0.3, "tie_word_embeddings": True, "pad_token_id": 0, **more,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation=attention))
    return model.eval()


def small_gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"vocab_size": WORDS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 256}
        model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.3))
    return model.eval()


def small_glm(**more: Any) -> GlmBackbone:
    shape = {
        "num_layers": 3, "hidden_size": 16, "num_heads": 2, "vocab_size": 66,
        "max_positions": 256, **more,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GlmBackbone(GlmConfig(**shape), SPECIAL)
        for parameter in model.parameters():  # else layers hardly mix and a wrong mask goes unseen
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


CHATGLM = {"position_encoding": "rope2d", "tied_head": False, "scaled_residual": True}


def small_backbone(family: str) -> Any:
    if family == "glm":
        return small_glm()
    if family == "chatglm":
        return small_glm(**CHATGLM)
    model = small_llama() if family == "llama" else small_gpt2()
    backbone = DecoderBackbone(model, rows=PositionRows(inter=200, intra=40))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for table in (backbone.inter.table, backbone.intra.table):  # as if they were trained
            torch.nn.init.normal_(table.weight, std=0.3)
    return backbone.eval()
