"""The profile user encoder: what it fuses, what it does without a profile, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from legos.data.items import ItemBatch, ItemField, ItemStore
from legos.errors import ConfigError
from legos.item.pooling import PoolingConfig
from legos.recommender import build_brick
from legos.registry import user_encoders
from legos.user.additive_attention import AdditiveAttentionConfig
from legos.user.profile import ProfileConfig, ProfileUser
from tests.bricks import (
    HIDDEN_SIZE,
    NUM_USERS,
    UserInput,
    random_profiles,
    random_recommender,
    random_store,
    user_input,
)

HISTORY = AdditiveAttentionConfig(attention_size=8)


def built(fusion: str) -> ProfileUser:
    config = ProfileConfig(history=HISTORY, profile=PoolingConfig(), fusion=fusion)
    model = random_recommender(random_store(), user=config).double().eval()
    assert isinstance(model.user_encoder, ProfileUser)
    return model.user_encoder


def parts(encoder: ProfileUser, given: UserInput) -> tuple[Tensor, Tensor]:
    """History vector and profile vector of every reader, one at a time."""
    user = encoder.history(given.history, given.mask)
    profiles = given.users.profiles
    assert profiles is not None
    rows = []
    for reader in given.users.ids.tolist():
        has_text = reader < len(profiles) and int(profiles.texts["interests"].lengths[reader]) > 0
        content = profiles.batch(torch.tensor([min(reader, len(profiles) - 1)]))
        rows.append(encoder.profile(content)[0] if has_text else encoder.missing)
    return user, torch.stack(rows)


def expected(encoder: ProfileUser, fusion: str, user: Tensor, profile: Tensor) -> Tensor:
    """The three fusions, written out."""
    both = torch.cat([user, profile], 1)
    if fusion == "attention":
        attention, scores = encoder.fuse.attention, []
        for vectors in (user, profile):
            hidden = torch.tanh(vectors @ attention.project.weight.T + attention.project.bias)
            scores.append(hidden @ attention.query.weight[0])
        weights = torch.stack(scores, 1).exp()
        weights = weights / weights.sum(1, keepdim=True)
        return weights[:, :1] * user + weights[:, 1:] * profile
    linear = both @ encoder.fuse.linear.weight.T + encoder.fuse.linear.bias
    if fusion == "concat_linear":
        return linear
    gate = 1 / (1 + (-linear).exp())
    return gate * user + (1 - gate) * profile


@pytest.mark.parametrize("fusion", ["concat_linear", "gate", "attention"])
def test_fusion_is_as_described(fusion: str) -> None:
    encoder, given = built(fusion), user_input()
    user, profile = parts(encoder, given)
    if fusion == "concat_linear":
        torch.testing.assert_close(given(encoder), user)  # it starts as the history alone
        torch.nn.init.normal_(encoder.fuse.linear.weight)
        torch.nn.init.normal_(encoder.fuse.linear.bias)
    torch.testing.assert_close(given(encoder), expected(encoder, fusion, user, profile))


def test_readers_without_a_word_and_new_readers_share_the_missing_vector() -> None:
    encoder, given = built("gate"), user_input((3, 3, 3, 3))
    profiles = random_profiles()
    silent = int((profiles.texts["interests"].lengths == 0).nonzero()[1])
    users = torch.tensor([silent, len(profiles), len(profiles) + 50, 1])
    same = given.history[:1].expand(4, -1, -1)
    given = UserInput(same, given.mask, replace(given.users, ids=users))
    silent_one, new, newer, talking = given(encoder)
    assert torch.equal(silent_one, new)
    assert torch.equal(new, newer)
    assert not torch.allclose(new, talking)


def test_every_distinct_reader_is_encoded_once() -> None:
    encoder, given = built("gate"), user_input((3, 3, 3, 3))
    seen: list[int] = []

    def watch(module: torch.nn.Module, inputs: tuple[ItemBatch]) -> None:
        seen.append(len(inputs[0]))

    encoder.profile.register_forward_pre_hook(watch)
    users = replace(given.users, ids=torch.tensor([1, 2, 1, 2]))
    UserInput(given.history, given.mask, users)(encoder)
    assert seen == [2]


def test_categories_alone_are_a_profile() -> None:
    field = ItemField("region", False, "region", 5, 1)
    regions = torch.arange(NUM_USERS) % 5
    store = ItemStore(
        fields={"region": field}, texts={}, categories={"region": regions}, num_items=NUM_USERS
    )
    encoder, given = built("gate"), user_input()
    encoder.profile.embeddings.fields = {"region": field}
    given = UserInput(given.history, given.mask, replace(given.users, profiles=store))
    (given(encoder).square().sum()).backward()
    assert encoder.missing.grad is not None
    assert encoder.missing.grad.any()  # the last reader is new
    given = given.row(0)
    encoder.zero_grad()
    given(encoder).square().sum().backward()
    assert not encoder.missing.grad.any()


def test_without_user_fields_it_is_refused() -> None:
    config = ProfileConfig(history=HISTORY, profile=PoolingConfig())
    context = {"hidden_size": HIDDEN_SIZE, "profile_embeddings": None, "known_users": None}
    with pytest.raises(ConfigError, match=r"needs user fields: .* data\.user_fields"):
        build_brick(user_encoders, config, context)


def test_an_encoder_that_gives_the_whole_history_is_refused() -> None:
    if "sequence" not in user_encoders.names():
        pytest.skip("no encoder gives the whole history")
    with pytest.raises(ValidationError, match="gives the whole history, and a profile is fused"):
        ProfileConfig(history=user_encoders.config("sequence")(), profile=PoolingConfig())
