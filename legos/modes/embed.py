"""Mode ``embed``: the token vectors of a language model, and its vectors of items, as files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import Tensor

from legos.config.data_schema import DataConfig
from legos.config.exp_schema import ExpConfig, VectorsConfig
from legos.config.load import EmbedJob
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.data.vector_files import file_fingerprint, write_item_vectors
from legos.errors import DataError
from legos.files import sha256_of_text
from legos.lm.load import LanguageModel
from legos.lm.settings import LoadSettings
from legos.lm.states import pooled_final_states
from legos.lm.token_vectors import language_model_token_vectors, write_token_table
from legos.lm.tokenizer import TemplateField
from legos.progress import PlainConsole, progress_bar
from legos.sharing import Sharing
from legos.terminal import as_started
from legos.workplace.device import joined_processes, make_accelerator
from legos.workplace.item_template import template
from legos.workplace.language import tokens_fingerprint

_VERSION = 1  # of what is computed
_SHOWN = 5  # items that an error names
_EXP = "--exp config/exp/tt-naml.yaml"


def run_embed(job: EmbedJob) -> dict[str, Any]:
    """Write what a command line asks for; returns what :func:`write_vectors` does."""
    exp = job.exp
    accelerator = make_accelerator(
        device=exp.device, precision=exp.precision, deterministic=exp.deterministic
    )
    with joined_processes(accelerator):
        console = PlainConsole(quiet=not accelerator.is_main_process)
        return write_vectors(exp, job.data, accelerator, console, data_words=job.data_words)


def check_embed(job: EmbedJob) -> None:
    """Print which files would be written and which are up to date; weights are not loaded.

    Raises:
        LegosError: the language model or the tables are not there, or do not fit.
    """
    LanguageModel(job.exp.vectors.model).audit()
    plans = _plans(job.exp.vectors, job.data)
    for plan in plans:
        state = "up to date" if _is_done(plan) else "to be written"
        print(f"{plan.path}: {plan.what}, {state}")


def write_vectors(
    exp: ExpConfig,
    data: DataConfig | None,
    accelerator: Accelerator,
    console: Console,
    *,
    data_words: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the token table of ``exp.vectors.model`` and, with data, a vector an item.

    Files that were made from the same are left as they are.

    Args:
        exp: the experiment.
        data: whose items; None: token vectors alone.
        accelerator: device and processes, which share the items.
        console: for remarks.
        data_words: words of a command line that choose the data.

    Returns:
        ``files``: paths of the token table and of the item vectors; ``written``: the new ones.

    Raises:
        ConfigError: there is no such language model, or an item is too long for it.
        DataError: a vector is not finite, or no item has any text.
    """
    sharing = Sharing.between(accelerator)
    plans = _plans(exp.vectors, data)
    done = sharing.first(lambda: [_is_done(plan) for plan in plans])
    for plan, is_done in zip(plans, done, strict=True):
        if is_done:
            console.print(f"{plan.path} is up to date", soft_wrap=True)
            continue
        rows, width = plan.write(exp.vectors, accelerator.device, sharing)
        console.print(f"{plan.path}: {rows:,} {plan.what} of {width:,} numbers", soft_wrap=True)
    console.print("\nused by")
    words = shlex.join(data_words or ("--data", "DATA"))
    vocabulary = _vocabulary(data)
    for plan in plans:
        console.print(f"  {plan.command(words, vocabulary)}", soft_wrap=True, markup=False)
    files = [str(plan.path) for plan in plans]
    written = [file for file, is_done in zip(files, done, strict=True) if not is_done]
    return {"files": files, "written": written}


def _plans(vectors: VectorsConfig, data: DataConfig | None) -> list[TokenFile | ItemFile]:
    """The files to be written, each with the fingerprint of what it is made from."""
    tokens = TokenFile.of(vectors)
    return [tokens] if data is None else [tokens, ItemFile.of(vectors, data)]


def _is_done(plan: TokenFile | ItemFile) -> bool:
    """Whether the file is there, made from the same."""
    return file_fingerprint(plan.path) == plan.fingerprint


@dataclass(frozen=True)
class TokenFile:
    """The token vectors of a language model.

    Attributes:
        path: of the file.
        fingerprint: of what it is made from.
    """

    path: Path
    fingerprint: str
    what = "token vectors"

    @classmethod
    def of(cls, vectors: VectorsConfig) -> TokenFile:
        """Where it goes."""
        model = LanguageModel(vectors.model)
        fingerprint = _fingerprint(weights=model.fingerprint, tokenizer=model.tokenizer_fingerprint)
        return cls(vectors.folder / f"{model.name}-token.safetensors", fingerprint)

    def write(
        self, vectors: VectorsConfig, device: torch.device, sharing: Sharing
    ) -> tuple[int, int]:
        """Write the file in the first process; returns rows and width."""

        def write_table() -> tuple[int, int]:
            table = language_model_token_vectors(vectors.model)
            write_token_table(self.path, table, fingerprint=self.fingerprint)
            rows, width = table.vectors.shape
            return rows, width

        return sharing.first(write_table)

    def command(self, data: str, vocabulary: str | None) -> str:
        """The command line that uses it."""
        more = "" if vocabulary is None else f" --vocabulary {shlex.quote(vocabulary)}"
        return as_started(
            f"python worker.py {data} --model config/model/naml.yaml {_EXP} "
            f"--embed config/embed/token-table.yaml --table {shlex.quote(str(self.path))}{more}"
        )


@dataclass(frozen=True)
class ItemFile:
    """A vector of every item that has words.

    Attributes:
        path: of the file.
        fingerprint: of what it is made from.
        language_model: that reads the items.
        names: raw ids of the N items that have words.
        tokens: what it reads of them.
    """

    path: Path
    fingerprint: str
    language_model: LanguageModel
    names: list[str]
    tokens: Ragged
    what = "item vectors"

    @classmethod
    def of(cls, vectors: VectorsConfig, data: DataConfig) -> ItemFile:
        """Read and tokenize the items.

        Raises:
            ConfigError: a field has no words, or an item is too long.
            DataError: no item has any text.
        """
        tables = Tables.load(data.folder)
        read = template(data, tables, prompts=vectors.prompts)
        model = LanguageModel(vectors.model, LoadSettings(dtype=vectors.dtype))
        tokens = model.read(read)
        kept = _with_words(read.fields, tokens)
        if not kept:
            raise DataError(f"{data.folder}: no item has any text to encode")
        tokens = tokens.select(torch.tensor(kept))
        known = tables.vocabulary("item_id")
        names = [known[item] for item in kept]
        fingerprint = _fingerprint(
            weights=model.fingerprint,
            dtype=vectors.dtype,
            pooling=vectors.pooling,
            items=sha256_of_text("\n".join(names)),
            texts=tokens_fingerprint(tokens),
        )
        path = vectors.folder / f"{data.name}-{model.name}.safetensors"
        return cls(path, fingerprint, model, names, tokens)

    def write(
        self, vectors: VectorsConfig, device: torch.device, sharing: Sharing
    ) -> tuple[int, int]:
        """Encode the items, shared, and write the file; returns rows and width.

        Raises:
            DataError: a vector is not finite.
        """
        model = self.language_model.load().to(device)
        with progress_bar("encoding items", self.tokens.values.numel()) as bar:
            found = pooled_final_states(
                model,
                self.tokens,
                pooling=vectors.pooling,
                batch_tokens=vectors.batch_tokens,
                advance=bar.advance,
                sharing=sharing,
            )
        return sharing.first(lambda: self._write_finite(found, vectors.dtype))

    def _write_finite(self, found: Tensor, dtype: str) -> tuple[int, int]:
        broken = (~found.isfinite().all(1)).nonzero()[:, 0].tolist()
        if broken:
            names = ", ".join(self.names[row] for row in broken[:_SHOWN])
            more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
            raise DataError(
                f"{self.language_model.name} ({dtype}): vectors of items that are not "
                f"finite: {names}{more}; nothing was written to {self.path}; are the weights "
                "whole? fp16 overflows where fp32 and bf16 do not"
            )
        write_item_vectors(self.path, self.names, found, fingerprint=self.fingerprint)
        rows, width = found.shape
        return rows, width

    def command(self, data: str, vocabulary: str | None) -> str:
        """The command line that uses it."""
        return as_started(
            f"python worker.py {data} --model config/model/fixed_vectors.yaml {_EXP} "
            f"--embed config/embed/item-vectors.yaml --vectors {shlex.quote(str(self.path))}"
        )


def _with_words(fields: Sequence[TemplateField], tokens: Ragged) -> list[int]:
    """Numbers of the items that have a field with words; opening and prompts are none."""
    lengths = tokens.lengths.tolist()
    return [
        item
        for item, texts in enumerate(zip(*(field.texts for field in fields), strict=True))
        if lengths[item] and any(text.strip() for text in texts)
    ]


def _vocabulary(data: DataConfig | None) -> str | None:
    """The tokenizer of the first text field; None without one."""
    columns = [field.column for field in data.fields] if data is not None else []
    return next((column.partition("@")[2] for column in columns if "@" in column), None)


def _fingerprint(**facts: Any) -> str:
    return sha256_of_text(json.dumps({"version": _VERSION, **facts}, sort_keys=True))
