"""What a language model is by its content: a hash that neither its name nor its place decides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from legos.content import content_of_all
from legos.files import sha256_of_text
from legos.lm.locate import locate, packaged
from legos.lm.source import LanguageModelSource

_WEIGHTS = ("*.safetensors",)
_OTHER_WEIGHTS = ("*.bin", "*.pt")  # of a GLM; others are never read
_READ = ("*.json", "*.txt", "*.model", "*.tiktoken")  # configuration and tokenizer
_NOT_READ = {"generation_config.json", "legos.json"}


def language_model_content(source: LanguageModelSource) -> str:
    """SHA-256 over configuration, weights and tokenizer.

    Args:
        source: where it comes from; of random weights shape and seed are their content.

    Raises:
        ConfigError: its files are not on this machine.
        OSError: they cannot be read.
    """
    facts = [] if source.random else [content_of_all(_files(source))]
    if source.random:
        facts.append(json.dumps([source.shape, source.seed], sort_keys=True))
    if source.tokenizer is not None:
        folder = Path(source.tokenizer)
        found = _matching(folder, _READ) if folder.is_dir() else _files(packaged(source.tokenizer))
        facts.append(content_of_all(found))
    return facts[0] if len(facts) == 1 else sha256_of_text(" ".join(facts))


def _files(source: LanguageModelSource) -> Iterator[Path]:
    if source.path is not None and Path(source.path).is_dir():
        folder = Path(source.path)  # a GLM's has no config.json
    else:
        located = locate(source)
        if located.gguf is not None:
            yield located.folder / located.gguf
            return
        folder = located.folder
    yield from _matching(folder, _READ)
    yield from list(_matching(folder, _WEIGHTS)) or _matching(folder, _OTHER_WEIGHTS)


def _matching(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.name not in _NOT_READ and path.is_file():
                yield path
