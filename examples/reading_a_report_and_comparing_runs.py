# %% [markdown]
# # Reading a report and comparing runs
#
# Two models are trained on an invented newsroom. This notebook shows where their results are, what
# the report holds, and whether the difference between the two is more than chance. It takes less
# than a minute on one core.

# %%
# Everything is written to a temporary folder. Set LEGOS_HOME to keep it.
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from legos.commands.main import main as legos

home = Path(os.environ.setdefault("LEGOS_HOME", tempfile.mkdtemp(prefix="legos-")))

# %%
# A small newsroom: 420 news, 500 readers, a week of clicks.
newsroom = ["--users", "500", "--news", "420", "--no-unitok"]
legos(["synthetic", "--raw", f"{home}/raw", "--output", f"{home}/data/newsroom", *newsroom])

# %% [markdown]
# ## Two runs
# Each run ends with its table, a verdict against the best baseline, and lists for three readers.

# %%
# NAML learns which words and fields matter.
shared = ["--data", "newsroom", "--exp", "tt", "--embed", "minilm-token"]
shared += ["--exp.train.epochs", "4", "--exp.baselines", "[random, popularity, item_knn]"]
legos(["run", "--model", "naml", *shared])

# %%
# `pooling` averages words, fields and clicks.
legos(["run", "--model", "pooling", *shared])

# %% [markdown]
# ## What has been run
# `newsroom/naml` means the newest run of that model. You can also give the first digits of a run's
# id.

# %%
# A line for each run, the newest first.
legos(["runs", "list"])

# %%
# Settings and results of one run.
legos(["runs", "show", "newsroom/naml"])

# %% [markdown]
# ## The report
# `report.html` is one file that opens in any browser and needs no network. It holds the verdict,
# the learning curve, recommendations for ten readers, and tables by kinds of items and users.

# %%
# Its headings:
(folder,) = (home / "runs/newsroom/naml").iterdir()
page = (folder / "report.html").read_text(encoding="utf-8")
print(f"{folder.name}/report.html, {len(page) // 1024} KiB:")
for heading in re.findall(r"<h[12][^>]*>(.*?)</h[12]>", page):
    print(" ", re.sub("<.*?>", "", heading))

# %%
# results.json holds the same numbers for programs. Cold items were never clicked in training.
results = json.loads((folder / "results.json").read_text())
print(results["verdict"]["test"]["sentence"])
for rows in ("all", "cold items", "warm items"):
    print(f"{rows:<11} GAUC {results['splits']['test']['rows'][rows]['GAUC']:.3f}")

# %% [markdown]
# ## Is the difference more than chance?
# `compare` tests each run against the first: a paired t-test over the test impressions, corrected
# for the number of rows (Holm). Stars mark p < .05, .01 and .001.

# %%
# The table goes to the screen and, with all p-values, into a file.
legos(["runs", "compare", "newsroom/naml", "newsroom/pooling", "--output", f"{home}/compared.json"])

# %%
# The test compares one value per impression. These values are in the run folder, too.
gaucs = {}
for model in ("naml", "pooling"):
    (file,) = (home / "runs/newsroom" / model).glob("*/diagnostics/*/test/groups-GAUC.npy")
    gaucs[model] = np.load(file)
difference = gaucs["naml"] - gaucs["pooling"]
error = difference.std(ddof=1) / np.sqrt(len(difference))
print(
    f"NAML - pooling: {difference.mean():+.4f} ± {1.96 * error:.4f} over {len(difference)} groups"
)
