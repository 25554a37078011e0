"""A GLM or ChatGLM to be built: its shape, tokenizer, special tokens and weights, each on demand.

Published folders differ from those of transformers' own models: ``config.json`` has GLM's keys, or
there is none beside Megatron's shards, and their tokenizers are code that is never run here; what
that code reads are ordinary vocabularies.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from legos.errors import ConfigError, nearest
from legos.lm.adapt import quantise
from legos.lm.load import LanguageModel
from legos.lm.locate import is_here, packaged
from legos.lm.settings import Dtype, LanguageModelSource, Quantised
from legos.lm.text_model import DTYPES
from legos.records import read_json, shown
from legos.systems.recsysllm.backbones.glm import SHAPES, GlmBackbone, GlmConfig
from legos.systems.recsysllm.backbones.glm_weights import (
    has_shards,
    heads_to_blocks,
    load_weights,
    read_weights,
)
from legos.systems.recsysllm.positions import (
    GLM_GPT2,
    NUM_APPENDED,
    SpecialTokens,
    appended,
)

GlmLayout = Literal["auto", "megatron", "hub", "chatglm"]
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")
_NO_TOKENS = SpecialTokens(0, 0, 0, 0, 0, pad=0)  # where only shapes are asked for
_GPT2_WORDS = 50_257
_ROUNDED = 128  # tables of tokens are filled up to a multiple of this
_NAMES = {
    "mask": ("[MASK]",),
    "sentence_mask": ("[sMASK]",),
    "document_mask": ("[gMASK]",),
    "start": ("<|startofpiece|>", "<sop>"),
    "end": ("<|endofpiece|>", "<eop>"),
}
_PADS = ("<|endoftext|>", "<pad>", "[PAD]")


class GlmFiles:
    """A GLM, published or from its configuration alone.

    Args:
        source: a folder with weights (``path``), or ``random`` with a shape; its ``shape`` has keys
            of :class:`GlmConfig`, or ``size``, the name of a published one, and wins over
            ``config.json``; its ``tokenizer`` is another folder or packaged name.
        layout: how weights lie; ``auto``: as they look.
        quantised: keep linear layers in 8 or 4 bits once they are read.
    """

    def __init__(
        self,
        source: LanguageModelSource,
        *,
        layout: GlmLayout = "auto",
        seed: int = 0,
        dtype: Dtype = "fp32",
        quantised: Quantised = "none",
    ) -> None:
        self.source, self.layout, self.seed = source, layout, seed
        self.dtype, self.quantised = dtype, quantised

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.source.name

    @property
    def num_layers(self) -> int:
        """L."""
        return self.config.num_layers

    @property
    def longest(self) -> int:
        """The most tokens it can read at once."""
        return self.config.max_positions

    @cached_property
    def folder(self) -> Path:
        """Where its files are; ConfigError where there is no such folder, or none is named."""
        if self.source.path is None:
            where = self.source.hub or self.source.package or "random weights"
            raise ConfigError(
                f"language model {self.name!r} ({where}): a GLM is read from a folder; `hf "
                "download OWNER/NAME --local-dir FOLDER` makes one, and model.path names it"
            )
        folder = Path(self.source.path)
        if not folder.is_dir():
            raise ConfigError(
                f"language model {self.name!r}: no folder {folder}; expected one with GLM's weights"
                " and vocabulary, or `random: true` with a shape; --check counts from a shape "
                "alone: --model.model.shape '{model_type: glm_infill, size: glm-10b}'"
            )
        return folder

    @cached_property
    def config(self) -> GlmConfig:
        """Its shape; ConfigError where there is none, of another model, or an impossible one."""
        given = dict(self.source.shape or {})
        if not given:
            given = _published_shape(self.folder / "config.json", self.name)
        given.pop("model_type", None)
        size = given.pop("size", None)
        if size is not None and size not in SHAPES:
            raise ConfigError(f"model.shape.size: unknown {size!r}; {nearest(str(size), SHAPES)}")
        shape = {**SHAPES.get(size, {}), **given}
        if self.source.random and "vocab_size" not in shape:
            words = self.num_words + len(_NAMES) + 1
            shape["vocab_size"] = -(-words // _ROUNDED) * _ROUNDED
        try:
            return GlmConfig(**shape)
        except ValidationError as error:
            said = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'shape'}: {one['msg']}"
                for one in error.errors()
            )
            origin = "model.shape" if self.source.shape else str(self.folder / "config.json")
            raise ConfigError(
                f"language model {self.name!r}: its shape is none ({said}), from {origin}"
            ) from None

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, neither truncating nor padding; ConfigError where none can be read."""
        own = self.source.tokenizer
        if own is not None and not Path(own).is_dir():
            tokenizer: Tokenizer = LanguageModel(packaged(own)).tokenizer
        else:
            tokenizer = _read_tokenizer(self.folder if own is None else Path(own), self.name)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @property
    def has_tokenizer(self) -> bool:
        """Whether the files of its tokenizer are on this machine."""
        own = self.source.tokenizer
        folder = Path(own or self.source.path or "")
        if own is not None and not folder.is_dir():
            return is_here(packaged(own))
        return any((folder / name).is_file() for name in _TOKENIZER_FILES)

    @property
    def num_words(self) -> int:
        """Ids of its tokenizer: one more than the largest."""
        return max(self.tokenizer.get_vocab().values()) + 1

    @cached_property
    def special(self) -> SpecialTokens:
        """Its tokens of blank infilling: as its vocabulary names them, else those of GPT-2's words.

        Raises:
            ConfigError: its vocabulary has none.
        """
        own, words = self.source.tokenizer, self.num_words
        known = _added_tokens(self.folder if own is None else Path(own))
        known |= self.tokenizer.get_vocab()
        ids = {
            role: known[name]
            for role, names in _NAMES.items()
            for name in reversed(names)  # the first that there is
            if name in known
        }
        if ids.keys() == _NAMES.keys():
            pad = next((known[name] for name in _PADS if name in known), 0)
            return SpecialTokens(**ids, pad=pad, cls=known.get("[CLS]"))
        if words == _GPT2_WORDS:
            return GLM_GPT2
        if self.source.random:
            return replace(appended(words), cls=words + NUM_APPENDED)
        missing = [names[0] for role, names in _NAMES.items() if role not in ids]
        raise ConfigError(
            f"language model {self.name!r}: its tokenizer of {words:,} tokens has no "
            f"{', '.join(missing)}; expected GLM's own, or GPT-2's {_GPT2_WORDS:,} tokens; "
            "model.tokenizer may name its folder"
        )

    def skeleton(self) -> GlmBackbone:
        """The model on the meta device, for shapes and counts."""
        model = self._empty(self._fitting() if self.has_tokenizer else _NO_TOKENS)
        quantise(model.transformer, self.quantised)
        return model

    def backbone(self, *, pretrained: bool = True) -> GlmBackbone:
        """The model on the CPU in evaluation mode, with its weights or with fresh ones.

        Raises:
            ConfigError: weights are missing or damaged, or do not fit its shape; its tokenizer has
                more tokens than its table; or a package is missing.
        """
        model = self._fresh() if self.source.random or not pretrained else self._read()
        quantise(model.transformer, self.quantised)
        return model.eval()

    def _empty(self, special: SpecialTokens) -> GlmBackbone:
        with torch.device("meta"):
            return GlmBackbone(self.config, special).to(DTYPES[self.dtype])

    def _fresh(self) -> GlmBackbone:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.source.seed if self.source.random else self.seed)
            return GlmBackbone(self.config, self._fitting()).to(DTYPES[self.dtype])

    def _read(self) -> GlmBackbone:
        weights = read_weights(self.folder)
        if self._layout_of_files() == "chatglm":
            weights = heads_to_blocks(weights, self.config.num_heads)
        model = self._empty(self._fitting())
        load_weights(model, weights, origin=f"{self.folder}")
        return model

    def _fitting(self) -> SpecialTokens:
        words = self.num_words
        if words > self.config.vocab_size:
            raise ConfigError(
                f"language model {self.name!r}: its tokenizer has {words:,} tokens, its table "
                f"{self.config.vocab_size:,}; model.tokenizer names another model's?"
            )
        return self.special

    def _layout_of_files(self) -> GlmLayout:
        rotary = self.config.position_encoding == "rope2d"
        shards = has_shards(self.folder)
        layout: GlmLayout = "megatron" if shards else "chatglm" if rotary else "hub"
        if self.layout in ("auto", layout):
            return layout
        looks = "mp_rank_XX_model_states.pt" if shards else "*.safetensors or *.bin"
        raise ConfigError(
            f"model.backbone.layout: {self.layout}, but {self.folder} has {looks} and its shape "
            f"{'turns heads by' if rotary else 'has tables of'} positions: that is {layout}"
        )


def _published_shape(path: Path, name: str) -> dict[str, Any]:
    """Keys of :class:`GlmConfig` from a published ``config.json``."""
    if not path.is_file():
        raise ConfigError(
            f"language model {name!r}: {path.parent} has no config.json; give its shape, as in "
            f"model.shape {{model_type: glm_infill, size: glm-10b}} ({', '.join(SHAPES)})"
        )
    own = read_json(path, error=ConfigError)
    if not isinstance(own, dict):
        raise ConfigError(f"{path}: expected an object, found {shown(own)}")
    kind = own.get("model_type")
    if kind == "glm_infill":
        return dict(own)
    wanted = ("num_layers", "hidden_size", "num_attention_heads", "vocab_size")
    if (
        kind not in ("glm", "chatglm")
        or any(key not in own for key in wanted)
        or "multi_query_attention" in own
    ):
        raise ConfigError(
            f"{path}: model_type {kind!r} is neither GLM nor ChatGLM-6B; later ones of these names "
            "are ordinary decoders (model.backbone.kind decoder)"
        )
    shape: dict[str, Any] = {
        "num_layers": own["num_layers"],
        "hidden_size": own["hidden_size"],
        "num_heads": own["num_attention_heads"],
        "vocab_size": own["vocab_size"],
        "max_positions": own.get("max_sequence_length", 1024),
        "layer_norm_eps": own.get("layernorm_epsilon", 1e-5),
        "dropout": own.get("output_dropout_prob", 0.1),
    }
    if kind == "chatglm":
        shape |= {
            "position_encoding": "rope2d",
            "tied_head": False,
            "scaled_residual": True,
            "inner_size": own.get("inner_hidden_size"),
            "dropout": 0.0,
        }
    return shape


def _read_tokenizer(folder: Path, name: str) -> Tokenizer:
    """Read ``tokenizer.json``, GPT-2's two files, or BERT's one."""
    here = {file.name for file in folder.glob("*")} if folder.is_dir() else set()
    try:
        if "tokenizer.json" in here:
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if {"vocab.json", "merges.txt"} <= here:
            files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
            tokenizer = Tokenizer(models.BPE.from_file(*files))
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            return tokenizer
        if "vocab.txt" in here:
            words = models.WordPiece.from_file(str(folder / "vocab.txt"), unk_token="[UNK]")  # noqa: S106
            tokenizer = Tokenizer(words)
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
            return tokenizer
    except Exception as error:  # tokenizers raises nothing more special
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{folder}: its tokenizer cannot be read ({reason})") from None
    pieces = sorted(file for file in here if file.endswith(".model"))
    more = f"; {pieces[0]} is SentencePiece's: convert it to a tokenizer.json" if pieces else ""
    raise ConfigError(
        f"language model {name!r}: no tokenizer in {folder}; expected tokenizer.json, or "
        f"vocab.json and merges.txt, or vocab.txt; model.tokenizer names another folder{more}"
    )


def _added_tokens(folder: Path) -> dict[str, int]:
    """Tokens behind the words of a vocabulary: of ``added_tokens.json``, where there is one."""
    path = folder / "added_tokens.json"
    if not path.is_file():
        return {}
    tokens = read_json(path, error=ConfigError)
    if not isinstance(tokens, dict) or not all(type(token) is int for token in tokens.values()):
        raise ConfigError(f"{path}: expected ids by name, found {shown(tokens)}")
    return tokens
