"""Where memory runs out, one message names what to change."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import worker
from legos.config.load import load_run_config
from legos.errors import OutOfMemory, describe_memory_error
from legos.workplace.device import memory_settings, models_of, naming_memory_settings
from tests.tiny import tiny_tables

ROOT = Path(__file__).parents[2]
PIB = 2**50
CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 3.20 GiB is free."
)


def _raised_by_torch() -> BaseException:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(PIB)
    return caught.value


def _raised_by_numpy() -> BaseException:
    with pytest.raises(MemoryError) as caught:
        np.empty(PIB)
    return caught.value


def test_torch_on_the_cpu_is_recognised_with_what_it_asked_for() -> None:
    told = describe_memory_error(_raised_by_torch(), ["lower exp.train.batch_size (64)"])
    assert told == (
        "out of memory on this machine (4.0 PiB more were asked for); these settings need less: "
        "lower exp.train.batch_size (64)"
    )


def test_numpy_is_recognised_with_what_it_asked_for() -> None:
    told = describe_memory_error(_raised_by_numpy())
    assert told is not None
    assert told.startswith("out of memory on this machine (8.0 PiB more were asked for); ")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(CUDA),
        RuntimeError(CUDA),
        RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.0 GB)"),
    ],
)
def test_a_gpu_is_recognised(error: BaseException) -> None:
    told = describe_memory_error(error)
    assert told is not None
    assert told.startswith("out of memory on the GPU")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_python_and_the_system_are_recognised(error: BaseException) -> None:
    told = describe_memory_error(error)
    assert told is not None
    assert told.startswith("out of memory on this machine; ")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: device-side assert triggered"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_are_none_of_memory(error: BaseException) -> None:
    assert describe_memory_error(error) is None


def _words(folder: Path, *words: str) -> list[str]:
    yaml = folder / "tiny.yaml"
    yaml.write_text(
        f"name: tiny\nfolder: {tiny_tables(folder / 'tables')}\nhistory_length: 10\n"
        "fields: [{column: title@words, length: 5}, {column: category}]\n"
    )
    return [
        *("--data", str(yaml), "--exp.runs_folder", str(folder / "runs"), "--device", "cpu"),
        *words,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ("--model", "pooling", "--exp", "train"),
            ("exp.train.item_page_size 64", "lower exp.train.batch_size (64)"),
        ),
        (("--model", "pooling", "--exp", "test"), ("lower exp.evaluate.page_size (512)",)),
        (
            (
                "--model",
                "bert-naml",
                "--exp",
                "train",
                "--layer",
                "2",
                "--model.item.lora_rank",
                "8",
            ),
            ("model.item.gradient_checkpointing true", "model.item.quantised nf4"),
        ),
        (("--model", "cllm4rec", "--exp", "train"), ("lower exp.train.batch_size (160)",)),
        (("--model", "recsysllm", "--exp", "train"), ("lower exp.train.batch_tokens (8192)",)),
    ],
)
def test_every_named_setting_is_one_that_the_command_takes(
    words: tuple[str, ...], keys: tuple[str, ...], tmp_path: Path
) -> None:
    config = load_run_config(_words(tmp_path, *words))
    found = memory_settings(config.exp, models_of(config))
    for key in keys:
        assert any(setting.startswith(key) for setting in found), (key, found)
    for setting in found:
        for key, value in re.findall(r"((?:exp|model)\.[\w.]+)(?: \(?(\w+))?", setting):
            given = ["--" + key, value if value not in ("", "as", "LoRA", "all") else "1"]
            if key.endswith(".layers"):
                given[1] = "2"
            load_run_config(_words(tmp_path, *words, *given))


def test_inside_a_run_the_message_becomes_an_error_of_ours(tmp_path: Path) -> None:
    config = load_run_config(_words(tmp_path, "--model", "pooling", "--exp", "train"))
    with (
        pytest.raises(OutOfMemory, match=r"need less: .*exp\.train\.batch_size"),
        naming_memory_settings(config.exp, models_of(config)),
    ):
        torch.empty(PIB)


def test_a_worker_without_memory_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hungry(*arguments: object, **named: object) -> None:
        torch.empty(PIB)

    monkeypatch.setattr("legos.modes.main.run", hungry)
    code = worker.main(_words(tmp_path, "--model", "pooling", "--exp", "train"))
    told = capsys.readouterr().err
    assert code == 2
    assert told.startswith("error: out of memory on this machine (4.0 PiB more were asked for)")
    assert "exp.train.batch_size" in told
    assert told.count("\n") == 1
