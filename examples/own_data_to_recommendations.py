# %% [markdown]
# # From two CSV files to recommendations
#
# A cookery site has a file of its recipes and a file of what its readers saved. This notebook turns
# both into tables, trains the default model, and asks it for lists. It makes its own data and takes
# less than a minute on one core.

# %%
# Everything is written to a temporary folder. Set LEGOS_HOME to keep it.
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import legos
from legos.commands.main import main as command

home = Path(os.environ.setdefault("LEGOS_HOME", tempfile.mkdtemp(prefix="legos-")))

# %% [markdown]
# ## The two files
# A recipe belongs to one of four cuisines. No column says which: only the words of a title do.

# %%
# 24 dishes in six styles: 144 recipes.
cuisines = [
    ["spaghetti", "risotto", "gnocchi", "minestrone", "focaccia", "polenta"],
    ["biryani", "dal", "samosa", "paneer curry", "naan", "korma"],
    ["tacos", "burrito", "enchiladas", "guacamole", "quesadilla", "pozole"],
    ["ramen", "sushi", "udon", "tempura", "miso soup", "yakitori"],
]
styles = ["with basil", "with lime", "for two", "in ten minutes", "the slow way", "for winter"]
titles = [f"{dish} {style}" for dishes in cuisines for dish in dishes for style in styles]
recipes = pd.DataFrame({"recipe_id": [f"r{number}" for number in range(144)], "title": titles})
recipes.to_csv(home / "recipes.csv", index=False)

# %%
# Each of 200 readers likes two cuisines and saves ten recipes of these, one a day.
random = np.random.default_rng(1)
saved = []
for reader in range(200):
    liked = random.choice(4, size=2, replace=False)
    of_liked = np.flatnonzero(np.isin(np.arange(144) // 36, liked))
    for day, number in enumerate(random.choice(of_liked, size=10, replace=False)):
        saved.append((f"u{reader}", f"r{number}", f"2026-03-{day + 1:02} 18:{reader % 60:02}"))
events = pd.DataFrame(saved, columns=["user_id", "recipe_id", "time"])
events.to_csv(home / "saved.csv", index=False)
print(events.head(3))

# %% [markdown]
# ## Tables
# `legos table` recognises columns by their usual names and prints the result. `recipe_id` is not
# one of them, so `--item` names it. From DataFrames: `legos.tables.build(...)`.

# %%
# Two files in, tables and a data YAML out.
files = ["--items", f"{home}/recipes.csv", "--events", f"{home}/saved.csv"]
command(["table", *files, "--item", "recipe_id", "--output", f"{home}/data/recipes"])

# %% [markdown]
# ## Training
# Without further options `legos run` trains the model `recommended`, compares it with baselines on
# each reader's last click, and ends with a verdict and lists for three readers.

# %%
# Validation after each epoch stops the training.
command(["run", "--data", "recipes"])

# %% [markdown]
# ## Recommendations
# A trained run answers questions from Python. The folder of a data set means its newest run.

# %%
# For a known reader. Recipes that she saved are left out.
run = legos.open(home / "runs/recipes")
print(run.history("u7").tail(3))
print(run.recommend("u7", k=3))

# %%
# For a new reader, two saved recipes are enough.
print(run.recommend(history=["r0", "r8"], k=3))

# %%
# Similar items, by the cosine of their vectors.
print(run.similar("r0", k=3))

# %%
# A new recipe is encoded from its words at once. It exists in the opened run, not in its folder.
run.add_items(pd.DataFrame([{"item_id": "new-1", "title": "gnocchi with spinach"}]))
print(run.score([["r0", "r8"]], ["new-1", "r40", "r80", "r120"]))
