"""Settings of a baseline as a model. Torch is not imported here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from legos.baselines.base import HistoryBaseline
from legos.config.model_schema import SystemModel, register_system
from legos.errors import nearest
from legos.lm.settings import LanguageModelSource
from legos.registry import BaselineConfig, bricks, read_baseline
from legos.settings import CONTENT, AskedFor


@register_system(
    about="a baseline as a model (ease, item_knn, ...), fitted without gradient steps",
    runs="legos.systems.fitted.system:Fitted",
    shows="legos.systems.fitted.system:show",
)
class FittedModel(SystemModel):
    """A baseline, fitted to the training split."""

    by_gradients: ClassVar[bool] = False

    system: Literal["fitted"] = "fitted"
    method: SerializeAsAny[Annotated[BaselineConfig, BeforeValidator(read_baseline)]]
    """The baseline: its name, or a mapping of its name and settings (`--list baseline`)."""
    text_model: Annotated[
        LanguageModelSource | None, CONTENT, AskedFor(frozenset({"text_vectors"}))
    ] = None
    """Language model of methods that compare texts; null: all-MiniLM-L6-v2, or TF-IDF weighted
    words in languages that it does not know."""

    @property
    def needs(self) -> frozenset[str]:
        """The parts of the data that its method reads."""
        return frozenset(self.method.needs)

    @property
    def baseline_label(self) -> str:
        """The label of its method."""
        return self.method.label

    @model_validator(mode="after")
    def _has_something_to_fit(self) -> Self:
        name = self.method.name
        if not _is_fitted(type(self.method)):
            known = bricks("baseline")
            fitting = [each for each in known.names() if _is_fitted(known.config(each))]
            raise ValueError(
                f"method: baseline {name!r} cannot recommend, it fits nothing; "
                f"{nearest(name, fitting)}"
            )
        return self


def _is_fitted(settings: type) -> bool:
    """Whether the baseline of a settings class is fitted and can score any history."""
    registry = bricks("baseline")
    name = settings.model_fields["name"].default  # type: ignore[attr-defined]
    return issubclass(registry.brick(name), HistoryBaseline)
