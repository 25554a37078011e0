"""Item encoders: the content of N items → ``(N, D)`` vectors."""

from legos.item.attention import Attention
from legos.item.cnn import CNN
from legos.item.fixed_vectors import FixedVectors
from legos.item.id import ID
from legos.item.id_and_content import IDAndContent
from legos.item.pooling import Pooling
from legos.item.semantic_codes import SemanticCodes

__all__ = ["CNN", "ID", "Attention", "FixedVectors", "IDAndContent", "Pooling", "SemanticCodes"]
