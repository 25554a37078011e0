"""Tiny sentence encoders in the layout of sentence-transformers, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEXTS = [
    "a fisherman told his tale",
    "london",
    "a tale of lives in victorian london and of the sea and of the fog and of the Night",
    "Heaven and the sea",
    "the night fog told of heaven a fisherman lives in the sea",
]
WIDTH = 16
_WORDS = sorted({word for text in TEXTS for word in text.split()} | {"query:", "passage:"})
_PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_WORDS, "instruct", ":", "query", "passage"]
_MARKS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
_SIZE = {
    "vocab_size": len(_PIECES),
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 4}
_T5 = {"d_model": WIDTH, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "BertModel", {}),
    "distilbert": ("DistilBertConfig", "DistilBertModel", {"dim": WIDTH, "hidden_dim": 32}),
    "mpnet": ("MPNetConfig", "MPNetModel", {}),
    "xlm-roberta": ("XLMRobertaConfig", "XLMRobertaModel", {}),
    "modernbert": ("ModernBertConfig", "ModernBertModel", {}),
    "t5": ("T5Config", "T5EncoderModel", _T5),
    "qwen3": ("Qwen3Config", "Qwen3Model", _GROUPED),
    "gemma3": (
        "Gemma3TextConfig",
        "Gemma3TextModel",
        {**_GROUPED, "use_bidirectional_attention": True, "sliding_window": 8},
    ),
    "llama": ("LlamaConfig", "LlamaModel", {"num_key_value_heads": 2}),
}


def tiny_tokenizer(*, left: bool = False, ends: bool = True) -> Any:
    """Words as tokens, ``[CLS]`` and ``[SEP]`` around a text, or none of them at its start."""
    backend = Tokenizer(
        models.WordLevel({word: row for row, word in enumerate(_PIECES)}, _MARKS["unk_token"])
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = "[CLS] $A [SEP]" if ends else "$A [SEP]"
    backend.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **_MARKS,
        padding_side="left" if left else "right",
        model_max_length=40,
    )


def ship(
    folder: Path,
    kind: str = "bert",
    *,
    pooling: dict[str, Any] | None = None,
    heads: tuple[tuple[str, dict[str, Any]], ...] = (),
    whole: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    left: bool = False,
    inside: str = "",
) -> Path:
    """Write one and return its folder.

    Args:
        pooling: of ``1_Pooling/config.json``; None: the mean.
        heads: modules behind it, class and ``config.json``; weights are drawn.
        whole: of ``config_sentence_transformers.json``.
        backbone: of ``sentence_bert_config.json``.
        config: settings of the transformer.
        left: its tokenizer pads at the left.
        inside: folder of the transformer.
    """
    torch.manual_seed(7)
    config_class, model_class, more = KINDS[kind]
    settings = getattr(transformers, config_class)(**{**_SIZE, **more, **(config or {})})
    place = folder / inside
    getattr(transformers, model_class)(settings).save_pretrained(place)
    tiny_tokenizer(left=left, ends=kind not in ("qwen3", "llama", "t5")).save_pretrained(place)
    write(place / "sentence_bert_config.json", {"max_seq_length": 14, **(backbone or {})})
    write(folder / "config_sentence_transformers.json", whole or {})
    width = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    write(folder / "1_Pooling/config.json", {**width} if pooling is None else pooling)
    modules = [("Transformer", inside), ("Pooling", "1_Pooling")]
    for number, (name, said) in enumerate(heads, start=2):
        path = f"{number}_{name}"
        modules.append((name, path))
        if said:
            write(folder / path / "config.json", said)
            _draw(folder / path, name, said)
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
        for n, (name, path) in enumerate(modules)
    ]
    write(folder / "modules.json", listed)
    return folder


def dense(inputs: int, outputs: int, activation: str = "Tanh", **more: Any) -> tuple[str, Any]:
    """A Dense head."""
    said = {"in_features": inputs, "out_features": outputs, "bias": True, **more}
    inside = "linear" if activation == "Identity" else "activation"
    return "Dense", {**said, "activation_function": f"torch.nn.modules.{inside}.{activation}"}


def write(path: Path, value: Any) -> None:
    """JSON, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _draw(folder: Path, name: str, said: dict[str, Any]) -> None:
    if name == "LayerNorm":
        width = said["dimension"]
        tensors = {"norm.weight": torch.rand(width) + 0.5, "norm.bias": torch.randn(width)}
    else:
        inputs, outputs = said["in_features"], said["out_features"]
        tensors = {"linear.weight": torch.randn(outputs, inputs) * 0.3}
        if said["bias"]:
            tensors["linear.bias"] = torch.randn(outputs)
        if said.get("use_residual") and inputs != outputs:
            tensors["residual.weight"] = torch.randn(outputs, inputs)
    save_file(tensors, folder / "model.safetensors")
