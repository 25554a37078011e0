"""The systems that train and score a model: what is imported here is what there is.

A system registers itself with the section that a model YAML may say of it, by one decorator
(:func:`legos.config.model_schema.register_system`); its torch code is imported when a run needs it.
"""

from legos.config.model_schema import ModelConfig, register_system
from legos.systems.cllm4rec.settings import Cllm4RecModel
from legos.systems.recsysllm.model_settings import RecsysllmModel

register_system(
    about="an item encoder, a user encoder and a predictor, each by its name",
    runs="legos.systems.bricks.system:Bricks",
    shows="legos.systems.bricks.check:show_bricks",
)(ModelConfig)

__all__ = ["Cllm4RecModel", "ModelConfig", "RecsysllmModel"]
