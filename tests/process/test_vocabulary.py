"""A vocabulary of finished tables: its words whole, any text readable, a shape that trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from legos.data.tables import Tables
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.lm.word_model import word_model
from process.vocabulary import build_parser, main
from tests.systems.cllm4rec.world import world_tables
from tests.systems.recsysllm.conftest import reviewed as reviewed

_WORDS = ("--max-name-words", "4", "--width", "16", "--heads", "2", "--layers", "2")


def _made(tables: Tables, folder: Path, *more: str) -> LanguageModel:
    words = ["--tables", str(tables.folder), "--output", str(folder), *_WORDS, *more]
    main(build_parser().parse_args(words))
    return LanguageModel(LanguageModelSource.model_validate(str(folder)))


def _written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_words_and_users_are_few_tokens_and_every_text_can_be_read(
    reviewed: Tables, tmp_path: Path
) -> None:
    tokenizer = _made(reviewed, tmp_path / "words").tokenizer
    assert tokenizer.encode(" Thing number 3").tokens == ["ĠThing", "Ġnumber", "Ġ3"]
    assert tokenizer.encode(" user_7").tokens == ["Ġuser", "_", "7"]
    assert tokenizer.encode(" 4.5").tokens == ["Ġ4", ".", "5"]
    strange = " naïve ½ 数"
    assert tokenizer.decode(tokenizer.encode(strange).ids) == strange


def test_the_folder_is_a_decoder_without_weights(reviewed: Tables, tmp_path: Path) -> None:
    language = _made(reviewed, tmp_path / "words", "--size", "400", "--dropout", "0.1")
    shape = json.loads((tmp_path / "words" / "config.json").read_text())
    assert shape["vocab_size"] == language.tokenizer.get_vocab_size() <= 400
    model = word_model(language, "random")
    assert (model.config.n_layer, model.config.n_embd, model.config.embd_pdrop) == (2, 16, 0.1)


def test_tables_of_any_split_have_words(tmp_path: Path) -> None:
    tables = Tables.load(
        world_tables(tmp_path / "tables")
    )  # random tenths: no last event is held out
    tokenizer = _made(tables, tmp_path / "words").tokenizer
    assert tokenizer.decode(tokenizer.encode(" any text").ids) == " any text"


def test_the_same_tables_give_the_same_bytes(reviewed: Tables, tmp_path: Path) -> None:
    for name in ("one", "two"):
        _made(reviewed, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["config.json", "tokenizer.json", "tokenizer_config.json"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_command_killed_at_its_very_end_can_be_given_again(
    reviewed: Tables, tmp_path: Path
) -> None:
    _made(reviewed, tmp_path / "words")
    (tmp_path / ".words.lock").touch()  # as a kill leaves it
    made = _written(tmp_path / "words")
    _made(reviewed, tmp_path / "words")
    assert _written(tmp_path / "words") == made
    assert [path.name for path in tmp_path.iterdir()] == ["words"]
    with pytest.raises(ValueError, match="already exists"):
        _made(reviewed, tmp_path / "words", "--size", "300")


@pytest.mark.parametrize(
    ("more", "told"),
    [(("--heads", "3"), "--width 16: expected a multiple of --heads 3"), ((), "already exists")],
)
def test_what_cannot_be_is_refused(
    reviewed: Tables, tmp_path: Path, more: tuple[str, ...], told: str
) -> None:
    folder = tmp_path / "words"
    if not more:
        folder.mkdir()
    with pytest.raises(ValueError, match=told):
        _made(reviewed, folder, *more)
