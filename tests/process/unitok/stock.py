"""A small MIND as the stock packages unitok (version 4) and UniTokv3 write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CATEGORIES = ("sports", "finance", "music", "travel")
NUM_ITEMS, NUM_USERS = 40, 24
SPLITS = {"train": 60, "dev": 20, "test": 20}


def frames() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, pd.DataFrame]]:
    """Items, users and interactions: a user clicks one category."""
    generator = np.random.default_rng(0)
    kind = np.arange(NUM_ITEMS) % 4
    words = [[f"{CATEGORIES[k]}{n}" for n in generator.integers(0, 6, 4)] for k in kind]
    items = pd.DataFrame(
        {
            "nid": [f"N{n}" for n in range(NUM_ITEMS)],
            "title": [" ".join(line) for line in words],
            "category": [CATEGORIES[k] for k in kind],
            "tags": [f"{CATEGORIES[k]}|new" for k in kind],
        }
    )
    liked = [[f"N{n}" for n in range(NUM_ITEMS) if n % 4 == user % 4] for user in range(NUM_USERS)]
    users = pd.DataFrame(
        {
            "uid": [f"U{n}" for n in range(NUM_USERS)],
            "history": [generator.permutation(items)[:3].tolist() for items in liked],
            "neg": [[f"N{(user + 1) % 4}", f"N{(user + 2) % 4}"] for user in range(NUM_USERS)],
        }
    )
    splits = {}
    for split, count in SPLITS.items():
        rows: dict[str, list[Any]] = {"imp": [], "uid": [], "nid": [], "click": []}
        for imp in range(count):
            user = int(generator.integers(NUM_USERS))
            clicked = int(generator.integers(10)) * 4 + user % 4
            shown = [clicked, *(clicked // 4 * 4 + (user + k) % 4 for k in (1, 2, 3))]
            for position, item in enumerate(shown):
                rows["imp"].append(f"{split}{imp}")
                rows["uid"].append(f"U{user}")
                rows["nid"].append(f"N{item}")
                rows["click"].append(int(position == 0))
        splits[split] = pd.DataFrame(rows)
    return items, users, splits


def write_v4(folder: Path) -> Path:
    """As Legommenders' processors write it."""
    import unitok

    items, users, splits = frames()
    nid, uid = unitok.Vocab("nid"), unitok.Vocab("uid")
    with unitok.UniTok() as table:
        table.add_feature(unitok.EntityTokenizer(vocab=nid), column="nid", name="item_id", key=True)
        words = unitok.tokenizer.SplitTokenizer(vocab="words", sep=" ")
        table.add_feature(words, column="title", name="title@words", truncate=3)
        table.add_feature(unitok.EntityTokenizer(vocab="category"), column="category")
        tags = unitok.tokenizer.SplitTokenizer(vocab="tags_of", sep="|")
        table.add_feature(tags, column="tags", truncate=0)
    table.tokenize(items).save(str(folder / "items"))
    with unitok.UniTok() as table:
        table.add_feature(unitok.EntityTokenizer(vocab=uid), column="uid", name="user_id", key=True)
        of_items = unitok.EntitiesTokenizer(vocab=nid)
        table.add_feature(of_items, column="history", truncate=0)
        table.add_feature(of_items, column="neg", truncate=100)
    table.tokenize(users).save(str(folder / "users"))
    for split, rows in splits.items():
        with unitok.UniTok() as table:
            table.add_index_feature()
            table.add_feature(unitok.EntityTokenizer(vocab="imp_" + split), column="imp")
            table.add_feature(unitok.EntityTokenizer(vocab=uid), column="uid", name="user_id")
            table.add_feature(unitok.EntityTokenizer(vocab=nid), column="nid", name="item_id")
            table.add_feature(unitok.DigitTokenizer(vocab="click", vocab_size=2), column="click")
        table.tokenize(rows).save(str(folder / ("valid" if split == "dev" else split)))
    return folder


def write_v3(folder: Path) -> Path:
    """As Legommenders' first version writes it: news, news-words2, user, neg, train, dev, test."""
    from UniTokv3 import Column, UniTok, Vocab
    from UniTokv3.tok import EntTok, IdTok, NumberTok, SeqTok, SplitTok

    items, users, splits = frames()
    nid, uid = Vocab("nid"), Vocab("uid")

    def store(frame: pd.DataFrame, name: str, *columns: Column, index: bool = False) -> None:
        table = UniTok()
        if index:
            table.add_index_col("index")
        for column in columns:
            table.add_col(column)
        table.read(frame).tokenize().store(str(folder / name))

    key = Column(tok=IdTok(vocab=nid))
    title = Column(name="title", tok=SplitTok(name="english", sep=" "), max_length=3)
    store(items, "news", key, Column(name="category", tok=EntTok(name="category")), title)
    other = Column(name="title", tok=SplitTok(name="llama", sep=" "), max_length=2)
    store(items, "news-llama", Column(tok=IdTok(vocab=nid)), other)
    store(
        users, "user", Column(tok=IdTok(vocab=uid)), Column(name="history", tok=SeqTok(vocab=nid))
    )
    store(users, "neg", Column(tok=IdTok(vocab=uid)), Column(name="neg", tok=SeqTok(vocab=nid)))
    for split, rows in splits.items():
        store(
            rows, split,
            Column(name="imp", tok=EntTok(name="imp")), Column(tok=EntTok(vocab=uid)),
            Column(tok=EntTok(vocab=nid)), Column(tok=NumberTok(name="click", vocab_size=2)),
            index=True,
        )  # fmt: skip
    return folder
