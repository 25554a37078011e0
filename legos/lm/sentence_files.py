"""A sentence encoder as sentence-transformers saves it, read from its JSON files.

Reimers and Gurevych, "Sentence-BERT", EMNLP 2019. ``modules.json`` lists what a text goes through:
a transformer, pooling over its final states, then any of Dense, LayerNorm and Normalize. Modules
are matched by name and built here; no class that a folder names is ever imported, and no pickle is
read. Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from legos.errors import ConfigError, nearest
from legos.records import Count, Record, check_record, read_json, read_record

MODULES = "modules.json"
WEIGHTS = "model.safetensors"
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ACTIVATIONS = (
    *("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "LeakyReLU", "ELU", "Mish"),
    *("Softplus", "Softsign", "ReLU6", "Hardtanh", "LogSigmoid"),
)
"""Classes of ``torch.nn`` that a Dense may name; each is built without arguments."""
TASKS = ("document", "query", "plain")
Task = Literal["document", "query", "plain"]
"""As ``encode_document``, ``encode_query`` and ``encode`` of sentence-transformers."""

_OWN = "sentence_transformers."
_PICKLE = "pytorch_model.bin"
_CONFIG = "config_sentence_transformers.json"
_BACKBONE_CONFIGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_SWITCHES = {  # of older files, in the order in which vectors are joined
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
_VECTOR, _TOKEN_STATES = "sentence_embedding", "token_embeddings"
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_COMPUTES_ALIKE = {"torch_dtype", "dtype", "attn_implementation", "padding_side"}
_SETTINGS_OF_CODE = (
    *("model_args", "model_kwargs", "config_args", "config_kwargs"),
    *("tokenizer_args", "processor_kwargs", "processing_kwargs"),
)


@dataclass(frozen=True)
class Pooling:
    """States of a text's tokens become one vector, or several side by side."""

    modes: tuple[str, ...]
    include_prompt: bool


@dataclass(frozen=True)
class Dense:
    """A linear layer with an activation, and with the input added where ``residual``."""

    weights: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str
    residual: bool


@dataclass(frozen=True)
class LayerNorm:
    weights: Path
    width: int


@dataclass(frozen=True)
class Normalize:
    """A vector of length 1."""


Step = Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class SentenceFiles:
    """What a folder says of its sentence encoder.

    Attributes:
        backbone: folder of the transformer and its tokenizer.
        max_length: tokens that a text keeps; None: as its tokenizer says.
        task_lengths: other lengths, by task.
        lower_case: texts are lowered before they are tokenized.
        pooling: of final states.
        steps: what a pooled vector goes through, in order.
        prompts: words before a text, by name; `query` and `document` are always there.
        default_prompt: name of the prompt that a text without a task gets.
        dimensions: numbers of a vector that are kept (Kusupati et al., "Matryoshka Representation
            Learning", NeurIPS 2022), as they are; None: all.
        files: what says or holds all this, besides the backbone.
    """

    backbone: Path
    pooling: Pooling
    steps: tuple[Step, ...] = ()
    max_length: int | None = None
    task_lengths: Mapping[str, int] = field(default_factory=dict)
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dimensions: int | None = None
    files: tuple[Path, ...] = ()

    @property
    def is_normalised(self) -> bool:
        """Whether its vectors have length 1."""
        return isinstance(self.steps[-1] if self.steps else None, Normalize)

    @property
    def is_plain_mean(self) -> bool:
        """Whether its vector is the mean of the final states, scaled or not."""
        plain = all(isinstance(step, Normalize) for step in self.steps)
        return self.pooling.modes == ("mean",) and plain

    def prompt(self, task: Task, name: str | None = None) -> str:
        """The words before a text of a task, or those of a prompt by name.

        Raises:
            ConfigError: there is no prompt of this name.
        """
        if name is None and task == "query":
            name = "query"
        elif name is None and task == "document":
            name = next(each for each in _DOCUMENT_PROMPTS if each in self.prompts)
        elif name is None:
            name = self.default_prompt
        if name is None:
            return ""
        if name not in self.prompts:
            raise ConfigError(
                f"{self.backbone}: no prompt is called {name!r}; {nearest(name, self.prompts)}"
            )
        return self.prompts[name]


class _Module(Record):
    type: str
    path: str = ""


class _Backbone(Record):
    max_seq_length: Count | None = None
    do_lower_case: bool = False
    transformer_task: str = "feature-extraction"
    module_output_name: str = _TOKEN_STATES
    modality_config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    query_length: Count | None = None
    document_length: Count | None = None
    query_expansion: dict[str, Any] | None = None


class _Pooling(Record):
    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True


class _Dense(Record):
    in_features: Count
    out_features: Count
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False


class _LayerNorm(Record):
    dimension: Count


class _InPlace(Record):
    module_input_name: str = _VECTOR
    module_output_name: str | None = None


class _Whole(Record):
    prompts: dict[str, str | None] = Field(default_factory=dict)
    default_prompt_name: str | None = None
    truncate_dim: Count | None = None


def sentence_files(folder: Path) -> SentenceFiles | None:
    """What a folder says of a sentence encoder; None: it has no ``modules.json``.

    ``folder`` may also be the transformer's own, inside the encoder's.

    Raises:
        ConfigError: a file is missing or damaged, a module is unknown or of the folder's own code,
            or weights are a pickle.
    """
    root = _root(folder)
    if root is None:
        return None
    path = root / MODULES
    listed = read_json(path, error=ConfigError)
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{path}: expected a list of modules")
    modules = [check_record(each, _Module, str(path), ConfigError) for each in listed]
    kinds = [_kind(module, path) for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise ConfigError(
            f"{path}: expected a Transformer, then Pooling, found {', '.join(kinds[:2])}; vectors "
            "are made from pooled states alone"
        )
    places = [_inside(root, module, path) for module in modules]
    steps, files = [], [path, places[1] / "config.json"]
    for kind, place in zip(kinds[2:], places[2:], strict=True):
        step = _step(kind, place)
        steps += [] if step is None else [step]
        files += [place / "config.json"] if (place / "config.json").is_file() else []
        files += [step.weights] if isinstance(step, Dense | LayerNorm) else []
    backbone, said = _backbone(places[0])
    whole = _whole(root)
    prompts = {"query": "", "document": ""}
    prompts |= {name: text or "" for name, text in whole.prompts.items()}
    if whole.default_prompt_name is not None and whole.default_prompt_name not in prompts:
        raise ConfigError(
            f"{root / _CONFIG}: default_prompt_name: no prompt is called "
            f"{whole.default_prompt_name!r}; {nearest(whole.default_prompt_name, prompts)}"
        )
    lengths = {"query": backbone.query_length, "document": backbone.document_length}
    files += [each for each in (said, root / _CONFIG) if each is not None and each.is_file()]
    return SentenceFiles(
        backbone=places[0],
        pooling=_pooling(places[1]),
        steps=tuple(steps),
        max_length=backbone.max_seq_length,
        task_lengths={task: length for task, length in lengths.items() if length is not None},
        lower_case=backbone.do_lower_case,
        prompts=prompts,
        default_prompt=whole.default_prompt_name,
        dimensions=whole.truncate_dim,
        files=tuple(files),
    )


def _root(folder: Path) -> Path | None:
    """The folder with the ``modules.json`` that a transformer's folder belongs to."""
    if (folder / MODULES).is_file():
        return folder
    if not (folder.parent / MODULES).is_file():
        return None
    listed = read_json(folder.parent / MODULES, error=ConfigError)
    named = [each.get("path") for each in listed if isinstance(each, dict)]
    return folder.parent if folder.name in named[:1] else None


def _kind(module: _Module, path: Path) -> str:
    """The name of a module's class; ConfigError: none that is known."""
    name = module.type.rpartition(".")[2]
    known = ("Transformer", "Pooling", *_STEPS)
    if not module.type.startswith(_OWN):
        raise ConfigError(
            f"{path}: module {module.type!r} is code of its own, which is never run: a downloaded "
            f"model must not execute anything on this machine; known are {', '.join(known)} of "
            "sentence-transformers"
        )
    if name not in known:
        raise ConfigError(
            f"{path}: module {module.type!r} is not known; known are {', '.join(known)}"
        )
    return name


def _inside(root: Path, module: _Module, path: Path) -> Path:
    given = Path(module.path)
    if given.is_absolute() or ".." in given.parts:
        raise ConfigError(f"{path}: path {module.path!r} of {module.type} leaves the folder")
    return root / given


def _backbone(folder: Path) -> tuple[_Backbone, Path | None]:
    """Settings of the transformer and their file; the defaults where it has none.

    Raises:
        ConfigError: they ask for what is not computed here.
    """
    path = next((folder / name for name in _BACKBONE_CONFIGS if (folder / name).is_file()), None)
    if path is None:
        return _Backbone(), None
    raw = read_json(path, error=ConfigError)
    found = check_record(raw, _Backbone, str(path), ConfigError)
    text = found.modality_config.get("text", _TEXT)
    expected = {
        "transformer_task": (found.transformer_task, "feature-extraction"),
        "module_output_name": (found.module_output_name, _TOKEN_STATES),
        "modality_config.text": ({key: text.get(key) for key in _TEXT}, _TEXT),
        "modality_config.message": (found.modality_config.get("message"), None),
        "query_expansion": (found.query_expansion, None),
    }
    for key in _SETTINGS_OF_CODE:
        given = raw.get(key) or {}
        alike = isinstance(given, dict) and given.keys() <= _COMPUTES_ALIKE
        expected[key] = ({} if alike else given, {})
    for key, (value, supported) in expected.items():
        if value != supported:
            raise ConfigError(
                f"{path}: {key}: expected {supported!r}, found {value!r}, which is not computed "
                "here; put settings of the transformer into its own config.json"
            )
    return found, path


def _pooling(folder: Path) -> Pooling:
    path = folder / "config.json"
    raw = read_json(path, error=ConfigError)
    found = check_record(raw, _Pooling, str(path), ConfigError)
    given = found.pooling_mode
    if given is None:
        given = [mode for mode, switch in _SWITCHES.items() if raw.get(switch)] or ["mean"]
    modes = (given,) if isinstance(given, str) else tuple(given)
    for mode in modes:
        if mode not in MODES:
            raise ConfigError(f"{path}: pooling_mode {mode!r}; {nearest(mode, MODES)}")
    return Pooling(modes, found.include_prompt)


def _step(kind: str, folder: Path) -> Step | None:
    """A module behind pooling; None: it changes nothing outside of training."""
    path = folder / "config.json"
    raw = read_json(path, error=ConfigError) if path.is_file() else {}
    place = check_record(raw, _InPlace, str(path), ConfigError)
    if {place.module_input_name, place.module_output_name or _VECTOR} != {_VECTOR}:
        raise ConfigError(
            f"{path}: module_input_name: expected {_VECTOR!r} for input and output, found "
            f"{place.module_input_name!r} and {place.module_output_name!r}"
        )
    if kind == "Dropout":
        return None
    if kind == "Normalize":
        return Normalize()
    if kind == "LayerNorm":
        width = read_record(path, _LayerNorm, error=ConfigError).dimension
        return LayerNorm(_weights(folder), width)
    dense = read_record(path, _Dense, error=ConfigError)
    activation = dense.activation_function
    name = activation.rpartition(".")[2]
    if not activation.startswith("torch.nn.") or name not in ACTIVATIONS:
        raise ConfigError(
            f"{path}: activation_function {activation!r} is not known; {nearest(name, ACTIVATIONS)}"
            " of torch.nn"
        )
    return Dense(
        weights=_weights(folder),
        inputs=dense.in_features,
        outputs=dense.out_features,
        bias=dense.bias,
        activation=name,
        residual=dense.use_residual,
    )


_STEPS = ("Dense", "LayerNorm", "Normalize", "Dropout")


def _weights(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    text = f"{folder}: no {WEIGHTS} here"
    if (folder / _PICKLE).is_file():
        text += (
            f"; {_PICKLE} is a pickle, which can run code and is not read: "
            "SentenceTransformer(FOLDER).save(NEW_FOLDER) of sentence-transformers converts it"
        )
    raise ConfigError(text)


def _whole(root: Path) -> _Whole:
    path = root / _CONFIG
    return read_record(path, _Whole, error=ConfigError) if path.is_file() else _Whole()
