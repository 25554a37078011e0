"""GLM and ChatGLM through the worker: published folders, from a configuration alone, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import worker
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.files import write_json
from legos.lm.settings import LanguageModelSource
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.positions import GLM_GPT2, lay_out
from legos.systems.recsysllm.prompts import Instance, builtin_prompts
from legos.systems.recsysllm.recipe import TrainingStream
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.systems.recsysllm.units import UnitTokenizer, plain
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from tests.systems.recsysllm.glm_folders import LAYOUTS, glm_folder
from tests.systems.recsysllm.small import byte_tokenizer
from tests.systems.recsysllm.system import system_config, word_language_model, yamls

QUICK = {"measure": {"prompts": ["sequential-6", "direct-8", "rating-10"], "users": 4}}


def opened(config: RunConfig) -> RecsysllmSystem:
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return RecsysllmSystem(Workplace.open(config, accelerator, Tables.load(config.data.folder)))


def glm_config(reviewed: Tables, root: Path, source: dict[str, Any], **more: Any) -> RunConfig:
    model = {
        "model": {"random": False, "shape": None, "tokenizer": None, **source},
        "backbone": {"kind": "glm", "layers": None, **more},
        "positions": {"prepend_cls": "chat" not in str(source["path"])},
        **QUICK,
    }
    return system_config(reviewed.folder, root, model=model)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_published_folder_is_checked_trained_and_measured(
    layout: str, reviewed: Tables, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, original = glm_folder(tmp_path / layout, layout)
    config = glm_config(reviewed, tmp_path, source, train="lora", lora_targets=["linear"])
    words = yamls(config, tmp_path)
    assert worker.main([*words, "--check"]) == 0
    told = capsys.readouterr().out
    system = opened(config)
    assert system.backbone.special == original.special
    frozen = sum(p.numel() for p in original.parameters())
    assert f"{system.parameters:,}" in told  # counted without weights
    assert f"{frozen:,}" in told
    examples = TrainingStream(system.world, original.special, config.exp.train).examples(0)
    layout_ = lay_out(examples, pad=0)
    with torch.no_grad():  # loaded as published: adapters are zero before training
        ours, theirs = (
            model.states(layout_.inputs, layout_.mask) for model in (system.backbone, original)
        )
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert worker.main(words) == 0
    (path,) = (tmp_path / "runs").glob("reviewed/tiny/*/results.json")
    rows = json.loads(path.read_text())["splits"]["test"]["rows"]
    assert {"all", "direct, unseen prompt direct-8", "rating, unseen prompt rating-10"} <= {*rows}
    stored = load_file(path.parent / "checkpoints/best/model.safetensors")
    assert stored
    assert all("lora_" in name for name in stored)  # positions stay as they were


@pytest.mark.slow
def test_a_glm_from_its_configuration_alone(reviewed: Tables, tmp_path: Path) -> None:
    words = str(word_language_model(tmp_path / "words")["tokenizer"])
    source = {
        "name": "made", "path": None, "random": True, "tokenizer": words,
        "shape": {"model_type": "glm_infill", "num_layers": 2, "hidden_size": 16, "num_heads": 2},
    }  # fmt: skip
    config = glm_config(reviewed, tmp_path, source, train="full")
    command = yamls(config, tmp_path)
    assert worker.main([*command, "--check"]) == 0
    assert worker.main(command) == 0
    (path,) = (tmp_path / "runs").glob("reviewed/tiny/*/checkpoints/best/model.safetensors")
    stored = load_file(path)
    fresh = GlmFiles(config.model.model).backbone()  # type: ignore[attr-defined]
    assert fresh.config.vocab_size % 128 == 0
    assert stored.keys() == dict(fresh.named_parameters()).keys()
    changed = [name for name, tensor in stored.items() if not torch.equal(
        tensor, fresh.state_dict()[name])]  # fmt: skip
    assert "transformer.block_position_embeddings.weight" in changed  # all of it learns
    assert len(changed) > 0.9 * len(stored)


@pytest.mark.slow
def test_cls_begins_every_example_and_the_limit_counts_it(reviewed: Tables, tmp_path: Path) -> None:
    source, original = glm_folder(tmp_path / "hub", "hub")
    config = glm_config(reviewed, tmp_path, source, train="lora", lora_targets=["linear"])
    short = {"max_tokens": 75}
    model = json.loads(config.model.model_dump_json())
    model = {**model, **{name: {**model[name], **short} for name in ("positions", "tasks")}}
    whole = {**json.loads(config.model_dump_json()), "model": model}
    system = opened(RunConfig.model_validate(whole))
    world, cls = system.world, original.special.cls
    stream = TrainingStream(world, original.special, config.exp.train)
    for step in range(25):
        found = stream.examples(step)
        assert found.tokens[found.offsets[:-1]].eq(cls).all()
        assert int(found.lengths.max()) <= 75
    template = builtin_prompts()["rating-1"]
    long = Instance(template, [plain("one " * 100)], [plain("by " * 100)], "", 0, 0)
    found = world.examples([long], original.special)
    assert found.lengths.tolist() == [75]


def test_texts_never_become_special_tokens(tmp_path: Path) -> None:
    source, _ = glm_folder(tmp_path, "chatglm")
    files = GlmFiles(LanguageModelSource(**source))
    special = files.special
    assert files.tokenizer.token_to_id("[MASK]") == special.mask
    tokenizer = UnitTokenizer(files.tokenizer)
    forged = tokenizer.encode_texts([" one [MASK] <sop> [gMASK] <eop>"]).values.tolist()
    assert not {special.mask, special.document_mask, special.start, special.end} & set(forged)


def test_vocabularies_as_they_are_published(tmp_path: Path) -> None:
    """GPT-2's two files get GLM's own ids; BERT's one has two of them among its words."""
    letters = byte_tokenizer().get_vocab()
    filled = {**letters, **{f"w{n}": n for n in range(len(letters), 50_257)}}
    write_json(tmp_path / "gpt2" / "vocab.json", filled)
    (tmp_path / "gpt2" / "merges.txt").write_text("#version: 0.2\n")
    shape = {"model_type": "glm_infill", "size": "glm-10b"}
    files = GlmFiles(LanguageModelSource(path=str(tmp_path / "gpt2"), shape=shape))
    assert files.special == GLM_GPT2
    assert (files.config.vocab_size, files.longest) == (50_304, 1024)
    assert files.tokenizer.decode(files.tokenizer.encode("A tin").ids) == "A tin"
    (tmp_path / "bert").mkdir()
    known = ["[PAD]", "[UNK]", "[CLS]", "[MASK]", "a", "tin"]
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(known))
    behind = ["<|startofpiece|>", "<|endofpiece|>", "[gMASK]", "[sMASK]"]
    write_json(tmp_path / "bert" / "added_tokens.json", {n: 6 + at for at, n in enumerate(behind)})
    files = GlmFiles(LanguageModelSource(path=str(tmp_path / "bert"), shape=shape))
    special = files.special
    assert (special.pad, special.cls, special.mask, special.start, special.end) == (0, 2, 3, 6, 7)
    assert (special.document_mask, special.sentence_mask) == (8, 9)
    assert files.tokenizer.encode("A Tin", add_special_tokens=False).ids == [4, 5]


def _without(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _other_vocabulary(folder: Path, name: str) -> None:
    tokenizer = Tokenizer.from_file(str(folder / name))
    tokenizer.add_tokens([f"more{n}" for n in range(20)])
    tokenizer.save(str(folder / name))


def _config(folder: Path, **keys: Any) -> None:
    known = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**known, **keys})


FAULTS = {
    "no folder": ("hub", lambda f: None, {"path": "nowhere"}, {}, "no folder nowhere"),
    "hub name": ("hub", lambda f: None, {"path": None, "hub": "o/n"}, {}, "--local-dir FOLDER"),
    "no weights": (
        "hub", lambda f: _without(f, "pytorch_model.bin"), {}, {}, "no weights here",
    ),
    "no shape": ("megatron", lambda f: None, {"shape": None}, {}, "has no config.json"),
    "unknown size": (
        "megatron", lambda f: None, {"shape": {"model_type": "glm_infill", "size": "glm-10"}}, {},
        "did you mean 'glm-10b'",
    ),
    "other shape": ("hub", lambda f: _config(f, num_layers=3), {}, {}, "parameters are missing"),
    "other width": (
        "hub", lambda f: _config(f, hidden_size=32), {}, {}, r"16\), expected \(\d+, 32\)",
    ),
    "later ChatGLM": (
        "chatglm", lambda f: _config(f, multi_query_attention=True), {}, {}, "neither GLM nor",
    ),
    "named layout": ("hub", lambda f: None, {}, {"layout": "megatron"}, "that is hub"),
    "lost shard": (
        "megatron",
        lambda f: (f / "mp_rank_00_model_states.pt").rename(f / "mp_rank_01_model_states.pt"),
        {}, {}, "expected 0 to 1",
    ),
    "damaged": (
        "hub", lambda f: (f / "pytorch_model.bin").write_bytes(b"no"), {}, {}, "as plain tensors",
    ),
    "no tokenizer": (
        "hub", lambda f: _without(f, "tokenizer.json"), {}, {}, "expected tokenizer.json, or",
    ),
    "no special tokens": (
        "hub", lambda f: _without(f, "added_tokens.json"), {}, {}, r"has no \[MASK\], \[sMASK\]",
    ),
    "larger vocabulary": (
        "chatglm", lambda f: _other_vocabulary(f, "tokenizer.json"), {}, {}, "its table",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_clear_message(
    fault: str, reviewed: Tables, tmp_path: Path
) -> None:
    layout, spoil, source, backbone, message = FAULTS[fault]
    said, _ = glm_folder(tmp_path / layout, layout)
    spoil(tmp_path / layout)
    with pytest.raises(ConfigError, match=message):
        opened(glm_config(reviewed, tmp_path, {**said, **source}, **backbone))


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"kind": "glm", "layers": 2}, "layers 2: fixed for a GLM"),
        ({"kind": "glm", "max_intra": 9, "layers": None}, "max_intra 9: fixed for a GLM"),
        ({"kind": "decoder", "layout": "hub"}, "layout hub: only for a GLM"),
    ],
)
def test_keys_of_the_other_kind_are_refused(
    backbone: dict[str, Any], message: str, reviewed: Tables, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        system_config(reviewed.folder, tmp_path, model={"backbone": backbone})
