# %% [markdown]
# # A brick from a package of your own
#
# A brick is a replaceable module: an item encoder, a user encoder or a predictor. It can live
# outside this repository, in any package that registers it when it is imported. This notebook
# writes such a package, lists its brick, trains it, and opens the trained run. It takes less than a
# minute on one core.

# %%
# Everything is written to a temporary folder. Set LEGOS_HOME to keep it.
import os
import sys
import tempfile
from pathlib import Path

import legos
from legos.commands.main import main as command

home = Path(os.environ.setdefault("LEGOS_HOME", tempfile.mkdtemp(prefix="legos-")))

# %% [markdown]
# ## The brick
# A user encoder that weighs recent clicks more than old ones. The settings class defines the keys
# of its YAML; the module maps item vectors `(B, H, D)` to one vector per user `(B, D)`. B is the
# batch, H the history (oldest click first), D the hidden size.

# %%
# The file, as you would write it in an editor.
BRICK = '''
"""Weighted average of the history: a click's weight halves after a learned number of clicks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from legos.registry import UserEncoderConfig, user_encoders


class FadingConfig(UserEncoderConfig):
    name: Literal["fading"] = "fading"
    half_life: float = Field(5.0, gt=0)
    """Initial half-life: the number of later clicks after which a click counts half."""


@user_encoders.register(FadingConfig)
class Fading(nn.Module):
    """Weigh the history by a learned half-life."""

    order_aware = True

    def __init__(self, settings: FadingConfig) -> None:
        super().__init__()
        self.log_half_life = nn.Parameter(torch.tensor(math.log(settings.half_life)))

    def forward(self, history: Tensor, mask: Tensor) -> Tensor:
        """``(B, H, D)`` and bool ``(B, H)`` -> ``(B, D)``; zeros for an empty history."""
        later = mask.flip(1).cumsum(1).flip(1) - 1  # (B, H): how many clicks followed
        weights = torch.exp2(-later / self.log_half_life.exp()) * mask
        return (weights[..., None] * history).sum(1) / weights.sum(1, keepdim=True).clamp(min=1e-6)
'''

# %%
# The package is a folder with two files. Importing it registers the brick.
package = home / "my_bricks"
package.mkdir(exist_ok=True)
(package / "fading.py").write_text(BRICK.lstrip())
(package / "__init__.py").write_text("from my_bricks import fading as fading\n")
sys.path.insert(0, str(home))  # an installed package needs no such line

# %% [markdown]
# ## It is known by name
# `--plugin` imports the package. A package with an entry point `legos.plugins` needs no option.

# %%
# It is in the list of user encoders, with the first sentence of its module.
command(["list", "user", "--plugin", "my_bricks"])

# %%
# The data: an invented newsroom of 420 news and 500 readers.
newsroom = ["--users", "500", "--news", "420", "--no-unitok"]
command(["synthetic", "--raw", f"{home}/raw", "--output", f"{home}/data/newsroom", *newsroom])

# %%
# Mistakes in its settings are reported like those of any other brick.
run = ["run", "--data", "newsroom", "--exp", "tt", "--embed", "minilm-token"]
run += ["--exp.train.epochs", "3", "--exp.baselines", "[popularity, item_knn]"]
fading = ["--plugin", "my_bricks", "--model", "pooling"]
command([*run, *fading, "--model.user", "{name: fading, half_live: 3}"])

# %% [markdown]
# ## Training

# %%
# The model `pooling` with its user encoder replaced.
command([*run, *fading, "--model.name", "fading", "--model.user", "{name: fading, half_life: 3}"])

# %%
# The same model as it is shipped: it averages all clicks.
command([*run, "--model", "pooling"])

# %%
# A paired test over the test impressions. Without stars, the difference may be chance.
command(["runs", "compare", "newsroom/pooling", "newsroom/fading"])

# %% [markdown]
# ## Afterwards
# The run remembers the package and a hash of its code; opening it imports the package again and
# refuses code that has changed since.

# %%
# Three news for one reader.
trained = legos.open(home / "runs/newsroom/fading")
print(trained.recommend(next(iter(trained.users)), k=3))

# %% [markdown]
# The tests that every shipped brick passes also test yours. In a clone of the repository, with the
# folder around `my_bricks` in PYTHONPATH:
# `python -m pytest -p my_bricks tests/test_invariants.py -k fading`
