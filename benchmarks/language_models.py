"""Which kinds of language models can be item encoders, cut and adapted: the table of the docs.

    python -m benchmarks.language_models [KIND ...]          # rows of these kinds, or of all
    python -m benchmarks.language_models --write             # docs/language-model-zoo.md

Every kind of text model that transformers has is built small, with random weights and its default
options, and tried by :func:`legos.lm.verify.try_kind`: three layers, cut at layer 2, LoRA adapters
that are not zero. ``worker.py --check`` does the same for the model of a run.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from legos.errors import ConfigError
from legos.lm.text_model import quiet_transformers, text_config
from legos.lm.verify import try_kind

PAGE = Path(__file__).resolve().parents[1] / "docs" / "language-model-zoo.md"
LAYERS, CUT = 3, 2
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_SECTIONS = {"rope_parameters": {**_ROPE, "mrope_section": [16, 24, 24]}}
_HALF_SECTIONS = {"rope_parameters": {**_ROPE, "mrope_section": [8, 12, 12]}}
_OPTIONS: dict[str, dict[str, Any]] = {  # where the defaults make no model
    "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_group": 1, "n_group": 1},
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "falcon_h1": {"mamba_d_ssm": 256, "mamba_n_heads": 8, "mamba_d_head": 32},
    "glm4v_text": _HALF_SECTIONS,
    "glm_image_text": _HALF_SECTIONS,
    "glm_ocr_text": _HALF_SECTIONS,
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl_text": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8},
    "qwen2_5_vl_text": _SECTIONS,
    "qwen2_vl_text": _SECTIONS,
    "xmod": {"default_language": "en_XX"},
}


@dataclass(frozen=True)
class Row:
    """What was found out about a kind.

    Attributes:
        kind: ``model_type`` of its configuration.
        whole: it can be an item encoder at all (``layer: 0``).
        difference: largest of cut and whole; None: it cannot be cut.
        reason: why it is refused.
    """

    kind: str
    whole: bool
    difference: float | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """A word for what it can do."""
        if self.difference is not None:
            return "equal"
        return "layer 0" if self.whole else "refused"


@cache
def kinds() -> tuple[list[str], dict[str, str]]:
    """Kinds that read text alone; kinds that read more, with the kind of their text model."""
    from transformers.models.auto import modeling_auto as auto

    text = {
        *auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        *auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
        *auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    wider = {*auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    named = {name for name in auto.MODEL_MAPPING_NAMES if name.endswith("_text")}
    plain, read_by = [], {}
    for kind in sorted((text | wider | named) & set(auto.MODEL_MAPPING_NAMES)):
        config = _default(kind)
        if config is None:
            continue
        part = text_config(config)
        if part is not config and not getattr(config, "is_encoder_decoder", False):
            read_by[kind] = part.model_type
        elif kind in text | named and _reads_text(config):
            plain.append(kind)
    return plain, read_by


def _default(kind: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(kind)
    except (ValueError, TypeError, ImportError):  # it needs parts, or a package that is not here
        return None


def _reads_text(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    try:
        model: Any = MODEL_MAPPING[type(config)]
    except (KeyError, ImportError, ValueError):
        return False
    model = model[0] if isinstance(model, tuple) else model
    return bool(getattr(model, "main_input_name", "") == "input_ids")


def small_config(kind: str) -> Any:
    """Its default configuration with three layers."""
    from transformers import AutoConfig

    options = _OPTIONS.get(kind, {})
    try:
        return AutoConfig.for_model(kind, num_hidden_layers=LAYERS, **options)
    except Exception:  # a kind whose layers have another name, or none
        return AutoConfig.for_model(kind, **options)


def row_of(kind: str) -> Row:
    """Try a kind."""
    with quiet_transformers():
        config = small_config(kind)
    try:
        tried = try_kind(config, name=kind, layer=CUT, lora=True)
    except ConfigError as error:
        reason = _short(str(error), kind)
    else:
        return Row(kind, True, tried.cut)
    try:
        whole = not math.isnan(try_kind(config, name=kind).padding)
    except ConfigError:
        whole = False
    return Row(kind, whole, None, reason)


def _short(message: str, kind: str) -> str:
    """An error without the name of the model, what to do about it, and numbers that vary."""
    message = message.removeprefix(f"language model {kind!r}").removeprefix(": ").strip()
    message = re.sub(r"relative difference [^)]*", "relative difference", message)
    return message.split("; ")[0].replace("|", "/")


def page(rows: Sequence[Row], read_by: dict[str, str]) -> str:
    """The docs page."""
    import transformers

    return "\n".join([*_page(rows, read_by, transformers.__version__), ""])


def _page(rows: Sequence[Row], read_by: dict[str, str], version: str) -> Iterator[str]:
    equal = [row for row in rows if row.difference is not None]
    largest = max(row.difference or 0.0 for row in equal)
    yield "# Supported language models"
    yield ""
    yield (
        f"Every kind of text model in transformers {version}, with the result of a test. A small "
        "random model of three layers is cut at layer 2 and gets random LoRA adapters: final "
        "states computed from cached states must equal those of the whole model (at most 1e-5 "
        "apart; gradients of the adapters 1e-4). `python -m benchmarks.language_models --write` "
        "writes this page. `make test` repeats the test for the well-known kinds and one of each "
        "refusal, `make nightly` for all. `worker.py --check` does the same for the model of a "
        "run, with its own options, and a run checks its real weights on a few items before it "
        "uses a cache."
    )
    yield ""
    yield (
        f"**equal**: the test passed ({len(equal)} of {len(rows)} kinds, largest difference "
        f"{largest:.0e} of the largest number). **layer 0**: usable as an item encoder, but it "
        "cannot be cut or adapted, for the reason given. **refused**: not usable as an item "
        "encoder."
    )
    yield ""
    yield "| kind | verdict | largest difference | why |"
    yield "|---|---|---|---|"
    for row in rows:
        number = "" if row.difference is None else f"{row.difference:.0e}"
        yield f"| {row.kind} | {row.verdict} | {number} | {row.reason} |"
    yield ""
    yield "## Models that read more than text"
    yield ""
    yield "An item encoder uses only the text model of these kinds."
    yield ""
    yield "| kind | text model |"
    yield "|---|---|"
    for kind, part in read_by.items():
        yield f"| {kind} | {part} |"


class Documented(NamedTuple):
    """A row of the docs page."""

    verdict: str
    reason: str


def documented(text: str) -> dict[str, Documented]:
    """Rows of the docs page, by kind."""
    row = r"^\| (\S+) \| (equal|layer 0|refused) \| .* \| (.*) \|$"
    found = re.findall(row, text, re.MULTILINE)
    return {kind: Documented(verdict, reason) for kind, verdict, reason in found}


def main() -> None:
    """Print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", help="of transformers; none: all")
    parser.add_argument("--write", action="store_true", help="write docs/language-model-zoo.md")
    given = parser.parse_args()
    with quiet_transformers():
        plain, read_by = kinds()
    rows = []
    for kind in given.kinds or plain:
        row = row_of(kind)
        rows.append(row)
        number = "" if row.difference is None else f"{row.difference:.1e}"
        print(f"{kind:28s} {row.verdict:8s} {number:8s} {row.reason}", flush=True)
    if given.write:
        PAGE.write_text(page(rows, read_by), encoding="utf-8")


if __name__ == "__main__":
    main()
