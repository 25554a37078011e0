"""A language model to be built: its shape, tokenizer, fingerprint and weights, each on demand.

transformers does the loading; folders, GGUF files and random weights in a given shape look alike
from here on. ``trust_remote_code`` is False everywhere: a downloaded folder must not execute
anything on this machine.
"""

from __future__ import annotations

import os
from copy import deepcopy
from functools import cached_property, partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from legos.content import content_of
from legos.data.ragged import Ragged
from legos.errors import ConfigError, LegosError, describe_memory_error
from legos.files import sha256_of_text
from legos.lm.adapt import quantise
from legos.lm.audit import LoadReport, load_audited
from legos.lm.locate import (
    Located,
    has_tokenizer,
    is_here,
    is_shape_alone,
    locate,
    packaged,
    refuse_adapter,
)
from legos.lm.settings import LanguageModelSource, LoadSettings
from legos.lm.text_model import (
    DTYPES,
    auto_class,
    check_cut,
    longest_text,
    output_width,
    quiet_transformers,
    refuse_causal,
    text_config,
    text_model,
    verify_longest,
    without_pooler,
)
from legos.lm.tokenizer import ItemTemplate, encode_items, fit_to_table
from legos.lm.twin import NoTwinError, Twin, twin
from legos.lm.weight_files import stored_as, stored_tensors, weight_files

_PLAIN = LoadSettings()


class LanguageModel:
    """A pretrained (or random) transformer without a head.

    Args:
        source: where it comes from.
        how: its dtype, linear layers in 8 or 4 bits once they are read and audited, its attention.
        shapes_only: never read weights; instances are on the meta device.
        bidirectional: every token of a decoder reads every other one (LLM2Vec, arXiv 2404.05961).
    """

    def __init__(
        self,
        source: LanguageModelSource,
        how: LoadSettings = _PLAIN,
        *,
        shapes_only: bool = False,
        bidirectional: bool = False,
    ) -> None:
        self.source, self.name, self.shapes_only = source, source.name, shapes_only
        self.bidirectional = bidirectional
        self.dtype, self.quantised, self.attention = how.dtype, how.quantised, how.attention
        self.report: LoadReport | None = None  # of the last load

    @cached_property
    def located(self) -> Located:
        """Its files."""
        return locate(self.source)

    @cached_property
    def config(self) -> Any:
        """The transformers configuration: of its files, or the given shape where that is enough."""
        from transformers import AutoConfig

        if self.source.shape is not None and (self.source.random or self.shapes_only):
            found = AutoConfig.for_model(**self.source.shape)
        else:
            found = self._from_files(AutoConfig, self.located, "configuration")
        if self.bidirectional:
            text_config(found).is_causal = False  # transformers then masks padding alone
        return found

    @property
    def text_config(self) -> Any:
        """The configuration of the part that reads text."""
        return text_config(self.config)

    @property
    def width(self) -> int:
        """E, the width of its hidden states."""
        size: int = self.text_config.hidden_size
        return size

    @property
    def output_width(self) -> int:
        """Width of its final states: E, but for models that project them (OPT-350m)."""
        return output_width(self.text_config)

    @property
    def num_layers(self) -> int:
        """L."""
        count: int = self.text_config.num_hidden_layers
        return count

    def layer(self, number: int) -> int:
        """A layer by number; negative ones count from the end; ConfigError: there is none."""
        layer = number + self.num_layers if number < 0 else number
        if not 0 <= layer < self.num_layers:
            check_cut(self.name, number, self.num_layers)
        return layer

    @property
    def table_width(self) -> int:
        """Width of its token table: E, but for models that widen it (ELECTRA-small, ALBERT)."""
        return self._table(self.skeleton()).shape[1]

    @cached_property
    def longest(self) -> int | None:
        """The most tokens it can read at once; None where it does not say."""
        return longest_text(self.skeleton(), self.text_config)

    def transformers_tokenizer(self) -> Any:
        """A fresh instance of its tokenizer as transformers has it."""
        from transformers import AutoTokenizer

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        own = self.source.tokenizer
        files = self.located if own is None else locate(packaged(own))
        return self._from_files(AutoTokenizer, files, "tokenizer")

    @cached_property
    def tokenizer(self) -> Any:
        """Its fast tokenizer (``tokenizers.Tokenizer``), neither truncating nor padding.

        Raises:
            ConfigError: its files are missing or cannot be read, or it has tokens that the model
                has no vector for.
        """
        return self.fast(self.transformers_tokenizer())

    def fast(self, whole: Any) -> Any:
        """The ``tokenizers.Tokenizer`` inside one of transformers; errors as :attr:`tokenizer`."""
        fast = getattr(whole, "backend_tokenizer", None)
        if fast is None:
            raise ConfigError(f"language model {self.name!r}: has no fast tokenizer")
        fast.no_truncation()
        fast.no_padding()
        return self.fit_to_table(fast)

    def fit_to_table(self, tokenizer: Any) -> Any:
        """A ``tokenizers.Tokenizer`` as :func:`legos.lm.tokenizer.fit_to_table` makes it."""
        rows: int | None = getattr(self.text_config, "vocab_size", None)
        return tokenizer if rows is None else fit_to_table(tokenizer, rows, self.name)

    def read(self, template: ItemTemplate) -> Ragged:
        """Token ids of every item, see :func:`legos.lm.tokenizer.encode_items`."""
        return encode_items(
            self.tokenizer, template.fields, opening=template.opening, longest=self.longest
        )

    @property
    def has_tokenizer(self) -> bool:
        """Whether the files of its tokenizer are on this machine."""
        own = self.source.tokenizer
        return has_tokenizer(self.source if own is None else packaged(own))

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the tokenizer."""
        return sha256_of_text(self.tokenizer.to_str())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over configuration and weights."""
        if self.source.random:
            return sha256_of_text(f"random {self.config.to_json_string()} {self.source.seed}")
        if self.located.gguf is not None:
            return content_of(self.located.folder / self.located.gguf)
        refuse_adapter(self.located.folder)
        weight_files(self.located.folder)
        weights = sorted(self.located.folder.glob("*.safetensors"))
        files = [self.located.folder / "config.json", *weights]
        return sha256_of_text(" ".join(content_of(file) for file in files))

    def load(self, *, decoder: bool = False, head: bool = False) -> nn.Module:
        """A fresh instance in evaluation mode, on the CPU.

        Args:
            decoder: leave an encoder-decoder whole; else its encoder.
            head: with the head over words that its files have.

        Raises:
            ConfigError: files or packages are missing, or do not fit.
        """
        kind = auto_class(self.config, decoder=decoder, head=head)
        if self.source.random:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.source.seed)
                model = self.fresh(kind)
        else:
            model = self._read(kind, decoder=decoder or head)
        if not head:
            model = without_pooler(text_model(model, decoder=decoder)).eval()
            if not self.source.random:
                with quiet_transformers():
                    verify_longest(model, self.longest, self.name)
            if self.bidirectional:
                reader: Any = model
                reader.config.is_causal = False  # of a GGUF file's
                refuse_causal(reader, self.name)
        whole: nn.Module = self.finished(model)
        return whole

    def fresh(self, kind: Any) -> Any:
        """A model of an auto class of transformers in its shape, drawn from torch's generator."""
        with quiet_transformers():
            return kind.from_config(
                deepcopy(self.config),
                dtype=DTYPES[self.dtype],
                trust_remote_code=False,
                **self._attention(),
            )

    def finished(self, model: Any) -> Any:
        """A model whose weights are there, quantised where that is asked for, in evaluation mode.

        ConfigError: a package is missing, or another attention computes than was asked for.
        """
        found = getattr(model.config, "_attn_implementation", None)
        if self.attention not in ("auto", found):
            raise ConfigError(
                f"language model {self.name!r}: attention {found!r} computes in "
                f"{type(model).__name__}, {self.attention!r} was asked for; set attention: auto"
            )
        quantise(model, self.quantised)
        return model.eval()

    def audit(self, *, head: bool = False, decoder: bool = False) -> LoadReport | None:
        """Compare what :meth:`load` needs with what the files hold, by their headers alone.

        None where nothing can be compared: random weights, GGUF, weights not on this machine.

        Raises:
            ConfigError: they do not fit, see :func:`legos.lm.audit.load_audited`.
        """
        known = is_here(self.source) and not is_shape_alone(self.source)
        if not known or self.located.gguf is not None:
            return None
        kind = auto_class(self.config, decoder=decoder, head=head)
        self._read(kind, decoder=decoder, device_map="meta")
        return self.report

    def token_table(self) -> Tensor:
        """``(V, E)`` float32, the vectors of ``get_input_embeddings()``.

        Of a folder nothing else is read; the audit of the whole model is passed all the same.

        Raises:
            ConfigError: as :meth:`load`; or the model has no such table.
        """
        if not self.source.random and self.located.gguf is None:
            whole = self._read(auto_class(self.config), decoder=False, device_map="meta")
            table = self._table(text_model(whole))
            stored = stored_tensors(self.located.folder)
            for name, tensor in whole.named_parameters(remove_duplicate=False):
                found = stored_as(stored, name, whole)
                if tensor is table and found is not None and found.shape == tuple(table.shape):
                    return found.read().float()
        return self._table(self.load()).detach().float()

    def _table(self, model: Any) -> Tensor:
        table = getattr(model.get_input_embeddings(), "weight", None)
        if not isinstance(table, Tensor) or table.ndim != 2:
            raise ConfigError(
                f"language model {self.name!r}: {type(model).__name__} has no token table"
            )
        return table

    def _from_files(self, kind: Any, files: Located, what: str) -> Any:
        with quiet_transformers():
            try:
                return kind.from_pretrained(
                    str(files.folder),
                    local_files_only=True,
                    trust_remote_code=False,
                    **files.arguments,
                )
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise self._refused(f"its {what} cannot be read", error) from None

    def _read(self, kind: Any, *, decoder: bool, **options: Any) -> Any:
        """A model of its files, audited; ``device_map="meta"`` reads their headers alone."""
        gguf = self.located.gguf is not None
        if gguf:
            from transformers import GgufConfig

            # else it may stay packed, and is called quantised: neither moved nor saved
            options["quantization_config"] = GgufConfig(dequantize=True)
        try:
            with quiet_transformers():
                model, self.report = load_audited(
                    kind,
                    self.located,
                    name=self.name,
                    part=partial(text_model, decoder=decoder),
                    config=None if gguf else deepcopy(self.config),
                    dtype=DTYPES[self.dtype],
                    **self._attention(),
                    **options,
                )
        except LegosError:
            raise
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            if describe_memory_error(error) is not None:
                raise
            raise self._refused("its weights cannot be read", error) from None
        return model

    def instance(self, *, kind: Any = None) -> nn.Module:
        """What bricks build upon: :meth:`load`, or :meth:`skeleton` where shapes are enough."""
        if not self.shapes_only:
            return self.load()
        skeleton = self.skeleton(kind=kind)
        quantise(skeleton, self.quantised)
        return skeleton

    def skeleton(self, *, kind: Any = None) -> nn.Module:
        """The same without weights, on the meta device; ``kind``: of another auto class, whole."""
        with quiet_transformers(), torch.device("meta"):
            model = (kind or auto_class(self.config)).from_config(
                deepcopy(self.config), dtype=DTYPES[self.dtype], trust_remote_code=False
            )
        return model if kind else without_pooler(text_model(model))

    def twin(self, layer: int) -> Twin:
        """See :func:`legos.lm.twin.twin`; ConfigError: none can be built."""
        with quiet_transformers():
            try:
                small = twin(self.config, layer)
                return Twin(without_pooler(small.model), small.layer)
            except NoTwinError as error:
                raise self._refused("no small model of its kind can be tried", error) from None

    def _attention(self) -> dict[str, Any]:
        """How transformers is asked for an attention."""
        if self.attention == "auto":
            return {}
        if self.attention == "flash_attention_2" and find_spec("flash_attn") is None:
            raise ConfigError(
                "attention flash_attention_2: needs the package flash_attn, and a CUDA device "
                "(`pip install flash-attn`); choose auto, sdpa or eager"
            )
        return {"attn_implementation": self.attention}

    def _refused(self, what: str, error: Exception) -> ConfigError:
        reason = " ".join(str(error).split())[:300]
        if "trust_remote_code" in str(error):
            reason = (
                "its folder has code of its own (auto_map), which legos never runs: a "
                "downloaded model must not execute anything on this machine; choose a model that "
                "transformers itself supports"
            )
        return ConfigError(f"language model {self.name!r}: {what} ({reason})")
