"""Item encoders: the content of N items → ``(N, D)`` vectors."""

from legos.item.additive_attention import AdditiveAttentionItem
from legos.item.attention import Attention
from legos.item.cnn import CNN
from legos.item.cnn_concat import CNNConcat
from legos.item.fastformer import FastformerItem
from legos.item.fixed_vectors import FixedVectors
from legos.item.glory import Glory
from legos.item.id import ID
from legos.item.id_and_content import IDAndContent
from legos.item.iisan import IISAN
from legos.item.language_model import LanguageModelEncoder
from legos.item.manner import Manner
from legos.item.pooling import Pooling
from legos.item.semantic_codes import SemanticCodes
from legos.item.text_vectors import TextVectors
from legos.item.transformer import TransformerItem
