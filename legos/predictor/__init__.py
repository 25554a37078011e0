"""Predictors: user vectors × candidate vectors → scores."""

from legos.predictor.autoint import AutoInt
from legos.predictor.cosine import Cosine
from legos.predictor.dcn import DCN
from legos.predictor.dcnv2 import DCNv2
from legos.predictor.deepfm import DeepFM
from legos.predictor.din import DIN
from legos.predictor.dot import Dot
from legos.predictor.finalmlp import FinalMLP
from legos.predictor.gdcn import GDCN
from legos.predictor.interests import InterestsPredictor
from legos.predictor.manner import Manner
from legos.predictor.masknet import MaskNet
from legos.predictor.mlp import MLPPredictor
from legos.predictor.pnn import PNN
