"""Mode embed: files of token and item vectors, and that they are read as they were written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

import worker
from legos.config.data_schema import DataConfig
from legos.config.exp_schema import ExpConfig
from legos.config.load import EmbedJob, load_run_config
from legos.data.tables import Tables
from legos.data.vector_files import read_item_vectors, read_vector_rows
from legos.errors import ConfigError, DataError
from legos.files import write_json
from legos.lm.load import LanguageModel
from legos.lm.locate import model_folder
from legos.lm.settings import LanguageModelSource
from legos.lm.states import pooled_final_states
from legos.lm.token_vectors import read_token_table
from legos.modes.embed import run_embed
from legos.workplace.language import Reading
from legos.workplace.token_tables import pretrained_token_vectors
from tests.lm.cached import ragged
from tests.lm.families import small_model
from tests.tiny import tiny_tables
from tests.workplace.test_language import SOURCE, language_config

READ: dict[str, Any] = {
    "fields": [{"column": "title@words", "length": 3}, "category"],
    "prompt": "news article:",
}
IDS = [[5, 6, 7], [], [8], [9, 10, 11, 12, 13, 14, 15, 16], [18, 19]]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    return tiny_tables(tmp_path / "tables")


def job(tables: Path | None, folder: Path, **vectors: Any) -> EmbedJob:
    """What is asked, of the tiny random model."""
    vectors = {"model": SOURCE, "folder": str(folder), **vectors}
    exp = {"name": "embed", "mode": "embed", "device": "cpu", "vectors": vectors}
    data = None
    if tables is not None:
        data = DataConfig.model_validate(
            {"name": "tiny", "folder": tables, "history_length": 6, **READ}
        )
    return EmbedJob(ExpConfig.model_validate(exp), data, ("--data", "tiny"))


def change_titles(tables: Path, change: dict[int, str]) -> None:
    path = tables / "columns" / "items" / "title.json"
    titles = json.loads(path.read_text())
    for item, text in change.items():
        titles[item] = text
    write_json(path, titles)
    manifest = json.loads((tables / "manifest.json").read_text())
    manifest["files"]["columns/items/title.json"]["bytes"] = path.stat().st_size
    write_json(tables / "manifest.json", manifest)


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("family", ["bert", "llama", "opt_projected"])
def test_pooled_final_states_equal_each_text_alone(family: str, pooling: Any) -> None:
    model: Any = small_model(family)
    done: list[int] = []
    found = pooled_final_states(
        model, ragged(IDS), pooling=pooling, batch_tokens=10, advance=done.append
    )
    for row, ids in enumerate(IDS):
        if not ids:
            assert found[row].isnan().all()
            continue
        with torch.no_grad():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        expected = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pooling]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
    assert sum(done) == sum(map(len, IDS))


def test_without_data_the_token_table_alone_is_written_and_read(tmp_path: Path) -> None:
    summary = run_embed(job(None, tmp_path / "out"))
    path = tmp_path / "out" / "tiny-token.safetensors"
    assert summary == {"files": [str(path)], "written": [str(path)]}
    words = ["--data", "newsroom", "--model", "naml", "--exp", "tt", "--embed", "token-table"]
    config = load_run_config([*words, "--table", str(path)])
    found = pretrained_token_vectors(config.embed)
    language_model = LanguageModel(LanguageModelSource(**SOURCE))
    model: Any = language_model.load()
    assert torch.equal(found.vectors, model.get_input_embeddings().weight)
    book = language_model.tokenizer.encode("book", add_special_tokens=False).ids[0]
    assert found.tokens[book] == "book"


@pytest.mark.slow
def test_item_vectors_are_those_of_the_template(tables: Path, tmp_path: Path) -> None:
    """The same tokens that an item encoder on the language model reads."""
    run_embed(job(tables, tmp_path / "out", pooling="first"))
    path = tmp_path / "out" / "tiny-tiny.safetensors"
    found = read_item_vectors(path, Tables.load(tables))
    assert found is not None
    config = language_config(tables, tmp_path, exp={"data": READ}, layer=1)
    language_model = LanguageModel(LanguageModelSource(**SOURCE))
    tokens = Reading.of(config, Tables.load(tables), language_model).tokens
    model: Any = language_model.load()
    for item in (0, 17, 59):
        ids = tokens.select(torch.tensor([item])).values[None]
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0, 0]
        torch.testing.assert_close(found[item], expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_files_are_written_again_only_where_something_changed(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    token, item = str(out / "tiny-token.safetensors"), str(out / "tiny-tiny.safetensors")
    assert run_embed(job(tables, out))["written"] == [token, item]
    vectors = read_vector_rows(Path(item)).values
    capsys.readouterr()
    assert run_embed(job(tables, out, batch_tokens=50))["written"] == []
    shown = capsys.readouterr().out
    assert f"{token} is up to date" in shown
    assert f"{item} is up to date" in shown
    for change in ({"pooling": "last"}, {"prompts": False}, {"dtype": "bf16"}):
        assert run_embed(job(tables, out, **change))["written"] == [item]
        assert not torch.equal(read_vector_rows(Path(item)).values, vectors)
    run_embed(job(tables, out))
    assert torch.equal(read_vector_rows(Path(item)).values, vectors)
    change_titles(tables, {7: "music"})
    assert run_embed(job(tables, out))["written"] == [item]
    assert run_embed(job(tables, out, model={**SOURCE, "seed": 5}))["written"] == [token, item]


@pytest.mark.slow
def test_items_without_words_are_left_out(tables: Path, tmp_path: Path) -> None:
    change_titles(tables, {3: " ", 8: ""})
    asked = job(tables, tmp_path / "out")
    assert asked.data is not None
    data = asked.data.model_copy(update={"fields": asked.data.fields[:1]})
    run_embed(EmbedJob(asked.exp, data, ()))
    rows = read_vector_rows(tmp_path / "out" / "tiny-tiny.safetensors")
    assert rows.ids == [f"N{item}" for item in range(60) if item not in (3, 8)]
    change_titles(tables, dict.fromkeys(range(60), ""))
    with pytest.raises(DataError, match="no item has any text"):
        run_embed(EmbedJob(asked.exp, data, ()))


@pytest.mark.slow
def test_vectors_that_are_not_finite_name_their_items(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = LanguageModel.load

    def broken(self: LanguageModel) -> torch.nn.Module:
        model: Any = original(self)
        sports = self.tokenizer.encode("sports", add_special_tokens=False).ids[0]
        model.embeddings.word_embeddings.weight.data[sports] = torch.nan
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr(LanguageModel, "load", broken)
    with pytest.raises(DataError, match=r"not finite: N0, .* and 1\d more"):
        run_embed(job(tables, tmp_path / "out"))
    assert not (tmp_path / "out" / "tiny-tiny.safetensors").exists()


@pytest.mark.slow
def test_packaged_minilm_by_the_command_line(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against transformers' own forward over the whole text; the printed commands are valid."""
    change_titles(tables, {0: "a good book", 1: "election night: who won?"})
    words = ["--exp", "embed", "--data", "newsroom", "--data.folder", str(tables)]
    words += ["--data.fields", '[{column: title@words, prompt: ""}]', "--data.prompt", "''"]
    words += ["--llm_ver", "minilm", "--embed_folder", str(tmp_path / "out"), "--device", "cpu"]
    assert worker.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("  python worker.py")]
    table, items = [load_run_config(command) for command in commands]
    folder = model_folder("minilm")
    model = AutoModel.from_pretrained(folder)
    assert table.embed.vocabulary == "words"
    found = read_token_table(Path(str(table.embed.path)))
    assert torch.equal(found.vectors, model.get_input_embeddings().weight)
    assert items.data == table.data
    vectors = read_item_vectors(items.embed.item_vectors, Tables.load(tables))
    assert vectors is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for item, text in enumerate(["a good book", "election night: who won?"]):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(vectors[item], states.mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "naml"], "--model: only --exp and --data and their keys are read here"),
        (["--llm_ver", "minilmm"], "did you mean 'minilm'"),
        (["--data.history_length", "3"], "--data: missing"),
        (["--pooling", "max"], "exp.vectors.pooling: unknown value"),
        (["--impressions", "x"], "--impressions: exp.mode is 'embed'"),
        (["--llm_ver", "no/where/else"], "no/where/else"),
    ],
)
def test_mistakes_are_told(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert worker.main(["--exp", "embed", "--embed_folder", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_table_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"config/exp/embed\.yaml"):
        read_token_table(tmp_path / "none.safetensors")
    with pytest.raises(ConfigError, match="needs variable 'table'"):
        load_run_config(
            ["--data", "mind", "--model", "naml", "--exp", "tt", "--embed", "token-table"]
        )
