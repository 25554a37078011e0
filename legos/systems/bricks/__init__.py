"""Bricks: an item encoder, a user encoder and a predictor, trained on clicks."""

from legos.config.model_schema import ModelConfig, register_system

register_system(
    about="an item encoder, a user encoder and a predictor, each by its name",
    runs="legos.systems.bricks.system:Bricks",
    shows="legos.systems.bricks.check:show_bricks",
)(ModelConfig)
