"""Titles, abstracts and entity columns of the invented newsroom."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from process.synthetic.topics import ANGLES, CATEGORIES

SUBCATEGORIES: tuple[tuple[str, str], ...] = tuple(
    (category, subcategory)
    for category, description in CATEGORIES.items()
    for subcategory in description.subcategories
)
_WORDS = [
    CATEGORIES[category].subcategories[subcategory].split()
    for category, subcategory in SUBCATEGORIES
]
_ANGLES = tuple(ANGLES.values())
_STRAY_WORDS = 0.12  # share of the topic words that come from any topic, as in real headlines
_QUOTED, _UNBALANCED, _NO_ABSTRACT = 0.05, 0.01, 0.05  # MIND's own oddities, at about its rates


@dataclass(frozen=True)
class Story:
    """The text columns of one news item; the entity columns are JSON lists as in MIND."""

    title: str
    abstract: str
    title_entities: str
    abstract_entities: str


def write_stories(
    generator: np.random.Generator, subcategory: np.ndarray, angle: np.ndarray
) -> list[Story]:
    """Write one story a news item.

    Args:
        generator: the source of every choice.
        subcategory: ``(N,)`` int, positions in ``SUBCATEGORIES``.
        angle: ``(N,)`` int, positions in ``ANGLES``.
    """
    return [
        _write_story(generator, int(topic), int(how))
        for topic, how in zip(subcategory, angle, strict=True)
    ]


def _write_story(generator: np.random.Generator, topic: int, how: int) -> Story:
    category_name, _ = SUBCATEGORIES[topic]
    category, angle = CATEGORIES[category_name], _ANGLES[how]
    common = category.words.split()
    entity = int(generator.integers(len(category.entities)))
    name = category.entities[entity]
    wikidata = f"Q9{list(CATEGORIES).index(category_name):02d}{entity:02d}"

    def fill(template: str) -> str:
        first, second = _topic_words(generator, topic)
        text = template.format(
            a=first,
            b=second,
            c=_draw(generator, common, 1)[0],
            e=name,
            n=generator.integers(2, 98),
        )
        return text[0].upper() + text[1:]

    title = fill(angle.titles[generator.integers(len(angle.titles))])
    abstract = " ".join(fill(sentence) for sentence in angle.sentences)
    chance = generator.random(4)
    if chance[0] < 0.3:
        abstract = f"{abstract} {name} was there."
    if chance[1] < _QUOTED:
        head, _, tail = title.partition(" ")
        title = f'"{head}" {tail}'
    elif chance[1] > 1 - _UNBALANCED:
        title = f'{title} on a 12" screen'
    if chance[2] < _NO_ABSTRACT:
        abstract = ""
    return Story(
        title, abstract, _entities(name, wikidata, title), _entities(name, wikidata, abstract)
    )


def _topic_words(generator: np.random.Generator, topic: int) -> tuple[str, str]:
    """Two distinct words of the subcategory, now and then a stray one."""
    first, second = _draw(generator, _WORDS[topic], 2)
    if generator.random() < _STRAY_WORDS:
        (second,) = _draw(generator, _WORDS[generator.integers(len(_WORDS))], 1)
    return first, second


def _draw(generator: np.random.Generator, words: list[str], count: int) -> list[str]:
    """Distinct words by Zipf's law: the word of rank r in proportion to 1 / r (Gumbel trick)."""
    keys = generator.gumbel(size=len(words)) - np.log(np.arange(1, len(words) + 1))
    return [words[i] for i in np.argsort(-keys)[:count]]


def _entities(name: str, wikidata: str, text: str) -> str:
    """MIND's entity column: a JSON list, ``[]`` when the name does not occur."""
    offset = text.find(name)
    if offset < 0:
        return "[]"
    entity = {
        "Label": name,
        "Type": "O",
        "WikidataId": wikidata,
        "Confidence": 1.0,
        "OccurrenceOffsets": [offset],
        "SurfaceForms": [name],
    }
    return json.dumps([entity])
