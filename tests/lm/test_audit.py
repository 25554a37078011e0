"""Nothing of a language model is random or left out without a word: the load audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import legos.lm.audit as module
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource, LoadSettings
from legos.lm.word_model import word_model
from tests.lm.families import small_model

Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
_LAYER = 16  # tensors of a layer of BERT


def written(folder: Path, family: str = "bert", *, head: bool = False, **config: Any) -> Path:
    """A small model as a folder."""
    model: Any = small_model(family)
    if head:
        model.config.update(config)
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(model.config)
    model.save_pretrained(folder)
    return folder


def changed(folder: Path, change: Change, **config: Any) -> LanguageModel:
    """The same with other tensors and keys of ``config.json``."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return LanguageModel(LanguageModelSource.model_validate(str(folder)))


def both_refuse(model: LanguageModel, *messages: str) -> None:
    """Weights and headers alone are refused with the same words."""
    told = []
    for load in (model.load, model.audit):
        with pytest.raises(ConfigError) as caught:
            load()
        told.append(str(caught.value))
    assert told[0] == told[1]
    for message in messages:
        assert message in told[0]


def same(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors


def prefixed(prefix: str) -> Change:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("prefix", "made_by"),
    [
        ("base_model.model.", "peft's names; merge_and_unload()"),
        ("module.", "DataParallel's names"),
        ("_orig_mod.", "torch.compile's names"),
        ("student.", "rename them"),
        ("module.bert.", "DataParallel's names"),
    ],
)
def test_tensors_under_a_prefix_are_refused_with_the_prefix(
    prefix: str, made_by: str, tmp_path: Path
) -> None:
    both_refuse(
        changed(written(tmp_path), prefixed(prefix)),
        "69 of 71 tensors of BertModel are missing from its files and would be random, first "
        "embeddings.word_embeddings.weight; ",
        f"69 of them are there under the prefix {prefix!r}, {made_by}"
        if made_by != "rename them"
        else f"69 of them are there under the prefix {prefix!r}; {made_by}",
    )


def test_the_own_prefix_of_a_family_and_old_names_are_read(tmp_path: Path) -> None:
    expected = small_model("bert").state_dict()

    def old(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
            for name, tensor in tensors.items()
        }

    found = changed(written(tmp_path), old).load().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_missing_layers_are_refused_with_how_many_there_are(tmp_path: Path) -> None:
    def two(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: t for n, t in tensors.items() if ".layer.2." not in n and ".layer.3." not in n}

    both_refuse(
        changed(written(tmp_path), two),
        f"{2 * _LAYER} of 71 tensors",
        "first encoder.layer.2.attention.self.query.weight",
        "its files hold 2 layers encoder.layer.*, its config.json asks for 4",
        "nearest name in its files is encoder.layer.1.attention.self.query.weight",
    )


def test_more_layers_than_stored_are_refused(tmp_path: Path) -> None:
    both_refuse(
        changed(written(tmp_path), same, num_hidden_layers=6),
        f"{2 * _LAYER} of 103 tensors",
        "its files hold 4 layers encoder.layer.*, its config.json asks for 6",
    )


@pytest.mark.parametrize(("family", "prefix"), [("bert", ""), ("bert", "bert."), ("llama", "")])
def test_fewer_layers_than_stored_are_refused(family: str, prefix: str, tmp_path: Path) -> None:
    stack = {"bert": "encoder.layer.", "llama": "layers."}[family]
    both_refuse(
        changed(written(tmp_path, family), prefixed(prefix), num_hidden_layers=2),
        "has no place for as its config.json describes it",
        f"its files hold 4 layers {stack}*, its config.json asks for 2",
    )


def test_one_missing_tensor_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        tensors["encoder.layer.1.attention.self.qurey.weight"] = tensors.pop(
            "encoder.layer.1.attention.self.query.weight"
        )
        return tensors

    both_refuse(
        changed(written(tmp_path), renamed),
        "1 of 71 tensors",
        "the nearest name in its files is encoder.layer.1.attention.self.qurey.weight",
    )


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_a_missing_token_table_is_refused_also_where_a_head_is_tied_to_it(
    family: str, tmp_path: Path
) -> None:
    def tableless(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {n: t for n, t in tensors.items() if "embed_tokens" not in n and "wte" not in n}

    both_refuse(changed(written(tmp_path, family), tableless), "1 of ", "are missing")


def test_other_shapes_are_refused_with_both(tmp_path: Path) -> None:
    both_refuse(
        changed(written(tmp_path), same, intermediate_size=48),
        "12 of 71 tensors of BertModel have another shape",
        "[32] in its files, [48] by its config.json",
    )


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.1.attention.self.query.lora_A.weight",
        "encoder.layer.0.adapter.dense.weight",
        "embeddings.task_type_embeddings.weight",
    ],
)
def test_weights_inside_the_model_that_it_has_no_place_for_are_refused(
    name: str, tmp_path: Path
) -> None:
    model = changed(written(tmp_path), lambda tensors: {**tensors, name: torch.ones(2, 16)})
    both_refuse(model, "hold 1 tensors that BertModel has no place for", f"first {name}")


def test_heads_masks_and_positions_are_told_and_not_refused(tmp_path: Path) -> None:
    model = changed(
        written(tmp_path),
        lambda tensors: {
            **{name: tensor for name, tensor in tensors.items() if "pooler" not in name},
            "cls.predictions.bias": torch.ones(97),
            "cls.predictions.transform.dense.weight": torch.ones(16, 16),
            "embeddings.position_ids": torch.arange(64)[None],
            "encoder.layer.0.attention.self.masked_bias": torch.tensor(-1e4),
            "encoder.layer.0.attention.bias": torch.ones(1, 1, 8, 8),
        },
    )
    model.load()
    assert model.report == model.audit()
    assert str(model.report) == "69 found, 4 unused (cls, encoder)"


def test_the_audit_reads_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel(LanguageModelSource.model_validate(str(written(tmp_path))))

    def none(*_: object) -> None:
        raise AssertionError("tensors were read")

    monkeypatch.setattr(module, "sampled_rows", lambda pairs: none() if pairs else iter(()))
    assert str(model.audit()) == "71 found, none unused"


def test_other_numbers_than_the_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel(LanguageModelSource.model_validate(str(written(tmp_path))))
    real = transformers.AutoModel.from_pretrained

    def spoiled(*arguments: Any, **named: Any) -> Any:
        loaded, told = real(*arguments, **named)
        loaded.embeddings.word_embeddings.weight.data.mul_(1.01)
        return loaded, told

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", spoiled)
    with pytest.raises(ConfigError, match=r"word_embeddings\.weight was loaded with other numbers"):
        model.load()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_another_dtype_than_the_files_is_no_difference(dtype: Any, tmp_path: Path) -> None:
    source = LanguageModelSource.model_validate(str(written(tmp_path)))
    assert LanguageModel(source, LoadSettings(dtype=dtype)).load() is not None


def sharded(folder: Path) -> LanguageModel:
    model: Any = small_model("bert")
    model.save_pretrained(folder, max_shard_size="20KB")
    return LanguageModel(LanguageModelSource.model_validate(str(folder)))


def test_shards_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    model = sharded(tmp_path)
    assert str(model.audit()) == "71 found, none unused"
    second = sorted(tmp_path.glob("model-*.safetensors"))[1]
    second.unlink()
    both_refuse(model, "weight files are missing, first model-00002-of-", "fetch them again")


def test_an_index_that_names_absent_tensors_is_refused(tmp_path: Path) -> None:
    model = sharded(tmp_path)
    first, second = sorted(tmp_path.glob("model-*.safetensors"))[:2]
    second.write_bytes(first.read_bytes())
    both_refuse(model, "model.safetensors.index.json: names 71 tensors", "are not where it says")


@pytest.mark.parametrize("left", [4, 100, -8])
def test_a_file_cut_short_is_named(left: int, tmp_path: Path) -> None:
    file = written(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    model = LanguageModel(LanguageModelSource.model_validate(str(tmp_path)))
    both_refuse(model, "model.safetensors: cut short or damaged")


def test_a_folder_with_an_adapter_is_refused_with_its_base(tmp_path: Path) -> None:
    file = written(tmp_path) / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": "owner/base", "peft_type": "LORA"}))
    model = LanguageModel(LanguageModelSource.model_validate(str(tmp_path)))
    both_refuse(model, "adapter_config.json, an adapter of owner/base", "merge_and_unload()")


def test_adapters_alone_are_refused_with_their_base(tmp_path: Path) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": "owner/base", "peft_type": "LORA"}))
    model = LanguageModel(LanguageModelSource.model_validate(str(tmp_path)))
    with pytest.raises(ConfigError, match="an adapter of owner/base"):
        model.load()


def test_a_word_model_without_its_own_head_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama", tie_word_embeddings=False)
    model = changed(folder, same, tie_word_embeddings=False)
    with pytest.raises(ConfigError, match=r"1 of 39 tensors.*first lm_head\.weight"):
        word_model(model, "pretrained")
    assert model.load() is not None


def test_a_head_that_is_not_the_token_table_as_the_config_says_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "llama", head=True, tie_word_embeddings=False)
    assert word_model(changed(folder, same), "pretrained") is not None
    tied = changed(folder, same, tie_word_embeddings=True)
    with pytest.raises(ConfigError, match=r"lm_head\.weight\) that differs from the token table"):
        word_model(tied, "pretrained")


def test_code_of_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    (tmp_path / "code.py").write_text("raise SystemExit('ran')\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = LanguageModel(LanguageModelSource.model_validate(str(tmp_path)))
    with pytest.raises(ConfigError, match=r"code of its own \(auto_map\), which legos never runs"):
        _ = model.config
