"""User encoders: the vectors of a history → a user vector."""

from legos.user.additive_attention import AdditiveAttentionUser
from legos.user.pooling import PoolingUser
from legos.user.profile import ProfileUser
from legos.user.self_attention import SelfAttentionUser

__all__ = ["AdditiveAttentionUser", "PoolingUser", "ProfileUser", "SelfAttentionUser"]
