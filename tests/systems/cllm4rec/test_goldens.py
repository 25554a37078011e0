"""What the public code was recorded to do, and its README's tensors.

Shown here: goldens G1 to G7 and the mask rule of G8 (``golden.json``: ids recorded by running the
public tokenizer with GPT-2's vocabulary; tensors as they stand in the README). G1 and G3 to G5 need
the part of GPT-2's vocabulary that is in ``gpt2_part.json``; G2 needs all of it and is left out
without it (``LEGOS_SHARED`` or ``../shared``).

| golden | test (here, unless a file is named) |
|---|---|
| G1 README sentence | test_g1_the_readme_sentence |
| G2 28 recorded texts | test_g2_every_recorded_text |
| G3 to G5 prompts of the README | test_g3_..., test_g4_..., test_g5_... |
| G6 embedding and masks | test_g6_the_readme_embedding_and_its_masks |
| G7 metrics | test_g7_metrics |
| G8 mask and split sizes | test_g8_how_many_items_a_prompt_hides; |
|   | process/amazon/test_amazon_splits: test_the_random_split_has_the_published_sizes |

| invariant | test (the files' own heads name more) |
|---|---|
| embedding | test_backbone: test_embedding_is_a_row_gather, test_ids_out_of_range |
| words alone | test_backbone: test_words_alone_give_..., test_t5_words_alone_give_... |
| 3, 4 who learns | test_steps: test_backbone_stays_and_one_set_learns; |
|   | test_cllm4rec_run: test_in_every_pass_one_set_of_tables_learns; |
|   | test_bf16: test_only_tables_are_optimized_and_they_stay_fp32 |
| rows with gradients | test_steps: test_rows_with_gradients |
| two passes, one, packed | test_backbone: test_two_passes_..., test_t5_equals_two_passes |
| padding | test_backbone: test_padding_changes_nothing |
| predicted positions | test_cllm4rec_losses: test_predicted_positions, |
|   | test_other_positions_do_not_matter, test_one_item_has_a_finite_loss; |
|   | test_steps: test_score_first_adds_one_term_a_row |
| mutual regularisation | test_cllm4rec_losses: test_mutual_...; test_batches: |
|   | test_user_counts_twice_only_as_in_the_public_code |
| weight 0 = LLM-CF | test_steps: test_weight_zero_is_llm_cf; test_cllm4rec_run: |
|   | test_without_mutual_weight_collaborative_tables_go_the_way_of_llm_cf |
| tied head | test_steps: test_item_head_is_the_item_table |
| recommendation | test_batches: test_masked_prompts, test_suffix_survives_every_length; |
|   | test_cllm4rec_losses: test_multinomial_by_hand |
| reordering | test_batches: test_reordering, test_fixed_order_of_prompts |
| evaluation | test_predict: test_top_items_equals_brute_force, |
|   | test_no_train_item_is_recommended, test_users_without_targets_are_left_out |
| checkpoints | test_cllm4rec_run: test_killed_in_every_stage_...; test_steps: |
|   | test_training_goes_on_bit_identically, test_names_are_strict |
| split | process/amazon/test_amazon_splits: test_splits_are_disjoint_whole_... |
| no leak | process/amazon/test_amazon_tables: test_training_reviews_hold_no_..., |
|   | test_a_leaking_review_is_refused_by_name |
| relabelling | test_predict: test_relabelling_permutes_scores |
| overfit, transfer | test_predict: test_overfit_on_planted_clusters, |
|   | test_content_reaches_items_without_interactions |
| bf16 | test_predict: test_16_bits_rank_nearly_as_32; |
|   | test_bf16: test_losses_in_16_bits_follow_those_in_32 |
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from legos.data.ragged import from_lengths
from legos.errors import DataError
from legos.metrics.full_ranking import full_ranking_metrics
from legos.systems.cllm4rec.backbone import SoftTables
from legos.systems.cllm4rec.batches import (
    InteractionLM,
    RecommendationPrompts,
    Templates,
    content_kind,
)
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from legos.systems.cllm4rec.tokenizer import SoftTokenizer, Vocabulary, pad
from tests.systems.cllm4rec.small import lists, ragged, small_backbone, small_templates

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
WORDS = 50257
SHARED = Path(os.environ.get("LEGOS_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture(scope="module")
def gpt2() -> Any:
    folder = SHARED / "data" / "gpt2-tokenizer"
    if not (folder / "merges.txt").is_file():
        pytest.skip(f"no GPT-2 vocabulary: {folder} is not there (set LEGOS_SHARED)")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer


@pytest.fixture(scope="module")
def sentences() -> Any:
    """GPT-2's tokenizer as far as the sentences of prompts need it."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(__file__).parent / "gpt2_part.json"))


def soft(gpt2: Any, users: int, items: int, **options: bool) -> SoftTokenizer:
    return SoftTokenizer(gpt2, Vocabulary(WORDS, users, items), **options)


def test_g1_the_readme_sentence(sentences: Any) -> None:
    text = "Hello, user_1! Have you seen item_2?"
    ids = soft(sentences, 10, 20).encode(text)
    assert ids == [15496, 11, 50258, 0, 8192, 345, 1775, 50269, 30]


def test_the_part_of_gpt2_reads_sentences_as_the_whole(gpt2: Any, sentences: Any) -> None:
    texts = ["Hello,", "! Have you seen", " has interacted with", ", ", " will interact with", ":"]
    texts += [" wrote the following review for", " writes the review for", "user_12"]
    assert [sentences.encode(text).ids for text in texts] == [
        gpt2.encode(text).ids for text in texts
    ]
    assert sentences.get_vocab().items() <= gpt2.get_vocab().items()


def test_g2_every_recorded_text(gpt2: Any) -> None:
    cases = GOLDEN["tokenizer_10u_20i"]
    tokens = soft(gpt2, 10, 20).encode_batch([case["text"] for case in cases])
    assert tokens.values.dtype == torch.int32
    assert len(cases) == 28
    assert lists(tokens) == [case["ids"] for case in cases]


def test_strict_refuses_what_is_no_user_and_word_boundary_what_is_inside_a_word(gpt2: Any) -> None:
    strict = soft(gpt2, 10, 20, strict=True)
    for text in ("user_1 user_12", "user_01", "item_20", "user_٣"):
        with pytest.raises(DataError, match="without leading zeros"):
            strict.encode(text)
    assert strict.encode("user_9 item_19") == [50266, 50286]
    whole = soft(gpt2, 10, 20, word_boundary=True)
    assert whole.encode("superuser_1") == gpt2.encode("superuser_1").ids
    assert whole.encode("item_3item_4") == gpt2.encode("item_3item_4").ids
    assert whole.encode("user_1's") == [50258, 338]


def test_plain_texts_never_hold_users(gpt2: Any) -> None:
    tokenizer = soft(gpt2, 10, 20)
    found = lists(tokenizer.encode_plain(["I am user_1 ", "", "<|endoftext|>"]))
    assert max(id for row in found for id in row) < 50256
    assert found[1] == []
    assert lists(tokenizer.encode_plain(["I"], leading_space=True)) == [[314]]


def test_g3_collaborative_prompts_and_mains(sentences: Any) -> None:
    golden = GOLDEN["readme_collab"]
    users, first_item = golden["num_users"], WORDS + golden["num_users"]
    items = [[id - first_item for id in row if id] for row in golden["main_ids"]]
    templates = Templates(soft(sentences, users, 1000), wording="public_code")
    settings = Cllm4RecConfig.model_validate({"preset": "public_code"})
    data = InteractionLM(ragged(items), templates, settings, seed=0)
    batch = data.batch(torch.arange(16), epoch=3)
    ids, mask = pad(batch.tokens)
    assert ids[:, :4].tolist() == golden["prompt_ids"]
    assert ids[:, 4:].tolist() == golden["main_ids"]
    assert int(mask[:, 4:].sum()) == 196
    lengths = [28, 6, 8, 8, 7, 32, 11, 16, 7, 8, 12, 6, 10, 15, 16, 6]
    assert (batch.tokens.lengths - batch.prompt_lengths).tolist() == lengths


def test_g4_content_prompts(sentences: Any) -> None:
    golden = GOLDEN["readme_content"]
    templates = Templates(soft(sentences, golden["num_users"], 1000), wording="public_code")
    users = torch.tensor([row[0] - WORDS for row in golden["prompt_ids"]])
    items = torch.tensor([row[6] - WORDS - golden["num_users"] for row in golden["prompt_ids"]])
    kinds = torch.full((16,), content_kind("review"))
    assert lists(templates.content(kinds, users, items)) == golden["prompt_ids"]


def test_g5_recommendation_prompts(sentences: Any) -> None:
    golden = GOLDEN["readme_rec"]
    first_item = WORDS + golden["num_users"]
    shown = [[id - first_item for id in row if id >= first_item] for row in golden["prompt_ids"]]
    tokenizer = soft(sentences, golden["num_users"], golden["num_items"])
    templates = Templates(tokenizer, wording="public_code")
    tokens = templates.recommendation(torch.arange(16), ragged(shown))
    assert pad(tokens)[0].tolist() == golden["prompt_ids"]
    lengths = [19, 13, 11, 11, 13, 12, 11, 38, 11, 17, 11, 11, 11, 11, 12, 12]
    assert tokens.lengths.tolist() == lengths
    items = " ".join(f"item_{item}" for item in shown[0])
    text = f"user_0 has interacted with {items}, user_0 will interact with"
    assert tokenizer.encode(text) == tokens.values[:19].tolist()


def test_every_sentence_equals_its_text(sentences: Any) -> None:
    tokenizer = soft(sentences, 10, 20)
    paper = Templates(tokenizer, wording="paper")
    texts = [
        "user_4 writes the review for item_7:",
        "The title of item_7 is:",
        "The brand of item_7 is:",
        "The description of item_7 is:",
        "The categories of item_7 are:",
        "The content of item_7 is:",
        "user_4 explains the reason for purchasing item_7:",
        "The biography of user_4 is:",
    ]
    count = len(texts)
    found = paper.content(torch.arange(count), torch.full((count,), 4), torch.full((count,), 7))
    assert lists(found) == [tokenizer.encode(text) for text in texts]
    whole = "user_4 has interacted with item_7 item_2 the user will interact with:"
    assert lists(paper.recommendation(torch.tensor([4]), ragged([[7, 2]]))) == [
        tokenizer.encode(whole)
    ]


def test_g6_the_readme_embedding_and_its_masks() -> None:
    golden = GOLDEN["readme_embed"]
    backbone = small_backbone("gpt2", vocab_size=3, hidden_size=2, num_attention_heads=1)
    vocabulary = Vocabulary(3, 3, 3)
    tables = SoftTables(vocabulary, width=2, std=1.0)
    with torch.no_grad():
        backbone.token_table.copy_(torch.tensor(golden["vocab"]))
        tables.user.weight.copy_(torch.tensor(golden["user"]))
        tables.item.weight.copy_(torch.tensor(golden["item"]))
    ids = torch.tensor(golden["input_ids"])
    expected = torch.tensor([golden["vocab"], golden["user"], golden["item"]])
    assert torch.equal(backbone.embed(ids, tables), expected)
    users, items = ids >= vocabulary.first_user, ids >= vocabulary.first_item
    masks = [~users, users & ~items, items]
    for row, mask in enumerate(masks):
        assert mask.all(1).tolist() == [row == other for other in range(3)]
        assert mask.any(1).tolist() == [row == other for other in range(3)]


def test_g7_metrics() -> None:
    targets, offsets = np.array([0, 2]), np.array([0, 2])
    before = np.array([[0, 1, 2, 3, 4, 5]])  # scores 5 4 3 2 1 0
    found = full_ranking_metrics(before, targets, offsets, recall_at=(1, 2, 3), ndcg_at=(2, 3))
    assert found.values == pytest.approx(
        {
            "Recall@1": 1.0,
            "Recall@2": 0.5,
            "Recall@3": 1.0,
            "nDCG@2": 0.6131471927654584,
            "nDCG@3": 0.9197207891481876,
        },
        abs=1e-15,
    )
    after = np.array([[1, 2, 3, 4, 5, -1]])  # item 0 excluded
    found = full_ranking_metrics(after, targets, offsets, recall_at=(), ndcg_at=(3,))
    assert found.values["nDCG@3"] == pytest.approx(0.38685280723454163, abs=1e-15)


def test_g8_how_many_items_a_prompt_hides() -> None:
    sizes = [1, 3, 12, 36]
    items = ragged([list(range(size)) for size in sizes])
    data = RecommendationPrompts(items, small_templates(4, 40), Cllm4RecConfig(), seed=1)
    hidden, seen = data.masked(torch.arange(4), epoch=0)
    assert hidden.lengths.tolist() == [1, 1, 2, 7]
    assert seen.lengths.tolist() == [0, 2, 10, 29]
    assert from_lengths(seen.values, seen.lengths).offsets.tolist() == seen.offsets.tolist()
