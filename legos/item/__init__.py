"""Item encoders: the content of N items → ``(N, D)`` vectors."""

from legos.item.attention import Attention
from legos.item.cnn import CNN
from legos.item.id import ID
from legos.item.id_and_content import IDAndContent
from legos.item.pooling import Pooling

__all__ = ["CNN", "ID", "Attention", "IDAndContent", "Pooling"]
