"""Check that training settings fit the bricks of a model."""

from __future__ import annotations

from legos.config.model_schema import ModelConfig, SystemModel
from legos.config.train_schema import TrainConfig
from legos.errors import ConfigError
from legos.registry import BrickConfig, PredictorConfig, UserEncoderConfig, bricks


def refuse_other_training(train: TrainConfig, model: SystemModel) -> None:
    """Raise ConfigError if a model cannot be trained with these settings."""
    if train.optimizer == "lazy_adam" and not model.needs & {"known_items", "known_users"}:
        raise ConfigError(
            "exp.train.optimizer lazy_adam needs a table of item or user IDs, which model "
            f"{model.name} does not have; use adam or adamw"
        )
    if not isinstance(model, ModelConfig):
        return
    _refuse_other_scores(train.loss, model)
    _refuse_other_negatives(train, model.user)
    _refuse_sequences(train, model.user)


def _refuse_other_scores(loss: str, model: ModelConfig) -> None:
    """Raise ConfigError for bricks whose scores do not fit the loss."""
    user, predictor = model.user, model.predictor
    if loss == "cosine_contrastive" and not predictor.gives_cosines:
        raise ConfigError(
            "exp.train.loss cosine_contrastive needs cosine scores, which predictor "
            f"{predictor.name} does not give; use predictor cosine with temperature 1.0 and "
            "learn_temperature false (--predictor cosine)"
        )
    if loss not in ("full_softmax", "multinomial"):
        return
    if user.output not in ("vector", "interests"):
        raise ConfigError(
            f"exp.train.loss {loss} scores all items, but the user vector of {user.name} depends "
            "on the candidate; use softmax, bce or bpr"
        )
    if not predictor.scores_catalogue:
        known = (
            bricks("predictor").validate({"name": name}) for name in bricks("predictor").names()
        )
        able = [
            each.name
            for each in known
            if isinstance(each, PredictorConfig) and each.scores_catalogue
        ]
        raise ConfigError(
            f"exp.train.loss {loss} scores all items at once, which predictor {predictor.name} "
            f"cannot; use predictor {', '.join(able)}, or loss softmax, bce or bpr"
        )


def _refuse_other_negatives(train: TrainConfig, user: UserEncoderConfig) -> None:
    """Raise ConfigError for settings of negatives that do not fit the loss or each other."""
    strategy, shared = train.negatives.strategy, train.negatives.shared
    drawn = {"gbce": ("uniform",), "sampled_softmax": ("uniform", "popularity")}
    fitting = drawn.get(train.loss)
    if fitting and strategy not in fitting:
        raise ConfigError(
            f"exp.train.loss {train.loss} corrects for random negatives, but the strategy is "
            f"{strategy}; set exp.train.negatives.strategy to {' or '.join(fitting)}"
        )
    if train.loss in ("full_softmax", "multinomial") or not shared:
        return
    if strategy not in ("uniform", "popularity"):
        raise ConfigError(
            f"exp.train.negatives.shared: strategy {strategy} draws negatives per click; "
            "set exp.train.negatives.strategy to uniform or popularity, or shared to false"
        )
    if user.output not in ("vector", "interests"):
        raise ConfigError(
            f"exp.train.negatives.shared: the vector of {user.name} depends on the candidate, "
            "so clicks cannot share negatives; set it to false"
        )


def _refuse_sequences(train: TrainConfig, user: UserEncoderConfig) -> None:
    """Raise ConfigError if the user encoder cannot train on whole sequences."""
    if not train.sequences and user.cloze is None:
        return
    if not user.reads_prefixes and user.cloze is None:
        known = (bricks("user").config(name) for name in bricks("user").names())
        able = [each.model_fields["name"].default for each in known if _may_read_prefixes(each)]
        raise ConfigError(
            f"exp.train.sequences: user encoder {user.name} with these settings is not causal; set "
            f"it to false or use {', '.join(able)} (sasrec and transformer need positions oldest, "
            "transformer also causal true and pooling last)"
        )
    if train.history != "given" or train.loss == "multinomial":
        asking = "exp.train.sequences" if user.cloze is None else f"user encoder {user.name}"
        off = "set it to false, or " if user.cloze is None else "set "
        raise ConfigError(
            f"{asking} needs one row per click and its given history; {off}"
            "exp.train.history to given and a loss other than multinomial"
        )


def _may_read_prefixes(settings: type[BrickConfig]) -> bool:
    return "reads_prefixes" in vars(settings)
