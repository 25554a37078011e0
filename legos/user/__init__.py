"""User encoders: the vectors of a history → a user vector."""

from legos.user.additive_attention import AdditiveAttentionUser
from legos.user.bert4rec import BERT4Rec
from legos.user.caum import CAUM
from legos.user.fastformer import FastformerUser
from legos.user.flatten import FlattenUser
from legos.user.glory import GloryUser
from legos.user.gru import GRUUser
from legos.user.hstu import HSTU
from legos.user.lstur import LSTUR
from legos.user.multi_vae import MultiVAE
from legos.user.npa import NPA
from legos.user.poly_attention import PolyAttentionUser
from legos.user.pooling import PoolingUser
from legos.user.profile import ProfileUser
from legos.user.sasrec import SASRec
from legos.user.self_attention import SelfAttentionUser
from legos.user.sequence import SequenceUser
from legos.user.simplex import SimpleX
from legos.user.target_attention import TargetAttentionUser
from legos.user.transformer import TransformerUser
from legos.user.user_id import UserID
from legos.user.user_vectors import UserVectors
