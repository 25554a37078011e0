"""What every settings model is made of: no unknown keys, numbers that are numbers, and bounded.

Torch is not imported here.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

LARGEST = 2**31 - 1
"""The largest whole number of a setting without a bound of its own: counts, sizes, steps."""
LARGEST_SEED = 2**32 - 1
"""The largest seed: numpy's generators take no larger one."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # it names a folder
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
LearningRate = Annotated[float, Field(gt=0, le=100)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_NUMBERS = ("int", "float")
_PLAIN_DATA = ("default", "metadata", "expected", "serialization")  # of a core schema


def _bound_numbers(schema: Any) -> None:
    """Make every number of a core schema strict, finite and bounded, in place."""
    if isinstance(schema, list | tuple):
        for part in schema:
            _bound_numbers(part)
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if kind in _NUMBERS:
        schema["strict"] = True
    if kind == "int":
        if "le" not in schema and "lt" not in schema:
            schema["le"] = LARGEST
        if "ge" not in schema and "gt" not in schema:
            schema["ge"] = -LARGEST
    if kind == "float":
        schema["allow_inf_nan"] = False
    for key, part in schema.items():
        if key not in _PLAIN_DATA:
            _bound_numbers(part)


class Settings(BaseModel):
    """A part of a YAML: frozen, without further keys; the texts below its keys are their help.

    Wherever it has a number, in lists, mappings and unions too, ``true`` is no 1, ``"3"`` and
    ``3.0`` are no 3, infinity and NaN are refused, and a whole number without bounds of its own
    is at most :data:`LARGEST`. A flag may be 1 or 0 too, as on the published command lines.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    added: ClassVar[frozenset[str]] = frozenset()
    """Keys that are younger than runs which still count: their defaults are in no id."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema that pydantic derives from the annotations, its numbers made strict."""
        schema = handler(source)
        _bound_numbers(schema)
        return schema

    def told_in_ids(self) -> dict[str, Any]:
        """Plain values by key, as the ids of runs hash them."""
        defaults = {key: type(self).model_fields[key].default for key in self.added}
        return {
            key: value
            for key, value in self.model_dump(mode="json").items()
            if key not in defaults or value != defaults[key]
        }
