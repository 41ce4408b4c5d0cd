"""The demo's models: made from arithmetic, valid for every reader, the same everywhere.

Their weights are noise. Nothing of them lies on disk, and the largest costs no memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from modelbay.serve.content import Content, Generated
from modelbay.serve.formats import Short, Signed, Tensor, gguf_head, safetensors_head
from modelbay.serve.shelf import Facts, MemoryShelf

LARGE_SHA256: Final = "20334b8ef750596766aa888d84506a5cab70b7836f39e4c5270fae0015043d06"
"""Of `demo/large-llm`'s one file, so that showing it does not hash a GiB."""
_WORDS: Final = ("<s>", "</s>", "<unk>", "bay", "model", "harbour", "tide", "quay")
_CHAT: Final = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"


def demo_shelf() -> MemoryShelf:
    """A shelf with the demo's models and one earlier name."""
    shelf = MemoryShelf()
    _tiny(shelf)
    _sharded(shelf)
    _quants(shelf)
    _gated(shelf)
    _large(shelf)
    shelf.rename("old-demo/tiny-llm", "demo/tiny-llm")
    return shelf


def _tiny(shelf: MemoryShelf) -> None:
    tensors = _llama(width=128, layers=3, vocabulary=2048)
    shelf.add(
        "demo/tiny-llm",
        {
            **_texts("tiny-llm", width=128, layers=3, vocabulary=2048),
            "model.safetensors": _safetensors("tiny-llm", tensors),
        },
        facts=_facts(tensors, downloads=120_000, likes=340, trending=12.5),
    )


def _sharded(shelf: MemoryShelf) -> None:
    tensors = _llama(width=256, layers=6, vocabulary=4096)
    cuts = (0, len(tensors) // 3, 2 * len(tensors) // 3, len(tensors))
    shards = {
        f"model-{number:05d}-of-00003.safetensors": tensors[cuts[number - 1] : cuts[number]]
        for number in (1, 2, 3)
    }
    index = {
        "metadata": {"total_size": sum(tensor.weights * 2 for tensor in tensors)},
        "weight_map": {tensor.name: name for name, part in shards.items() for tensor in part},
    }
    shelf.add(
        "demo/sharded-llm",
        {
            **_texts("sharded-llm", width=256, layers=6, vocabulary=4096),
            **{name: _safetensors(name, part) for name, part in shards.items()},
            "model.safetensors.index.json": json.dumps(index, indent=2) + "\n",
        },
        facts=_facts(tensors, downloads=45_000, likes=90, trending=4),
    )


def _quants(shelf: MemoryShelf) -> None:
    shared = {"general.architecture": "llama", "general.name": "Demo Quants"}
    files: dict[str, str | Content] = {
        "README.md": _card("gguf-quants", {"base_model": "demo/tiny-llm"}),
        "gguf-quants-Q4_K_M.gguf": _language("Q4_K", 15),
        "gguf-quants-Q8_0.gguf": _language("Q8_0", 7),
        "mmproj-gguf-quants-F16.gguf": _gguf(
            "mmproj",
            {**shared, "general.architecture": "clip", "clip.has_vision_encoder": 1},
            [Tensor("mm.0.weight", "F16", (256, 256)), Tensor("mm.0.bias", "F32", (256,))],
        ),
    }
    for number in (1, 2):
        files[f"F16/gguf-quants-F16-{number:05d}-of-00002.gguf"] = _language("F16", 1, number)
    facts = Facts(
        licence="apache-2.0",
        pipeline_tag="text-generation",
        tags=("gguf", "base_model:demo/tiny-llm", "base_model:quantized:demo/tiny-llm"),
        downloads=81_000,
        likes=210,
        trending=30,
        card={"base_model": ["demo/tiny-llm"]},
        gguf={"total": 1_179_904, "architecture": "llama", "context_length": 2048},
    )
    shelf.add("demo/gguf-quants", files, facts=facts)


def _gated(shelf: MemoryShelf) -> None:
    tensors = _llama(width=64, layers=2, vocabulary=1024)
    facts = replace(
        _facts(tensors, downloads=990_000, likes=5200, trending=80),
        licence="llama3.1",
        gated="auto",
        card={"extra_gated_prompt": "Say who you are before the demo lets you in."},
    )
    files = {
        **_texts("gated-llm", width=64, layers=2, vocabulary=1024, licence="llama3.1"),
        "model.safetensors": _safetensors("gated-llm", tensors),
    }
    shelf.add("demo/gated-llm", files, facts=facts)


def _large(shelf: MemoryShelf) -> None:
    head, size = safetensors_head([Tensor("model.embed_tokens.weight", "BF16", (262_144, 2048))])
    shelf.add(
        "demo/large-llm",
        {
            **_texts("large-llm", width=2048, layers=0, vocabulary=262_144, licence="mit"),
            "model.safetensors": Generated(size, "large-llm", head, LARGE_SHA256),
        },
        facts=Facts(
            licence="mit",
            pipeline_tag="text-generation",
            library_name="transformers",
            tags=("safetensors", "llama", "en"),
            downloads=700,
            likes=8,
            parameters={"BF16": 262_144 * 2048},
        ),
    )


def _facts(tensors: Sequence[Tensor], *, downloads: int, likes: int, trending: float) -> Facts:
    return Facts(
        licence="apache-2.0",
        pipeline_tag="text-generation",
        library_name="transformers",
        tags=("safetensors", "llama", "en"),
        downloads=downloads,
        likes=likes,
        trending=trending,
        config={"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
        parameters={"BF16": sum(tensor.weights for tensor in tensors)},
    )


def _llama(*, width: int, layers: int, vocabulary: int) -> list[Tensor]:
    def tensor(name: str, *shape: int) -> Tensor:
        return Tensor(f"model.{name}.weight", "BF16", shape)

    tensors = [tensor("embed_tokens", vocabulary, width)]
    for layer in range(layers):
        inside = f"layers.{layer}"
        tensors += [tensor(f"{inside}.self_attn.{one}_proj", width, width) for one in "qkvo"]
        tensors += [tensor(f"{inside}.mlp.{one}_proj", 3 * width, width) for one in ("gate", "up")]
        tensors.append(tensor(f"{inside}.mlp.down_proj", width, 3 * width))
        tensors.append(tensor(f"{inside}.input_layernorm", width))
        tensors.append(tensor(f"{inside}.post_attention_layernorm", width))
    return [*tensors, tensor("norm", width)]


def _safetensors(seed: str, tensors: Sequence[Tensor]) -> Generated:
    head, size = safetensors_head(tensors)
    return Generated(size, seed, head)


def _gguf(seed: str, metadata: Mapping[str, object], tensors: Sequence[Tensor]) -> Generated:
    head, size = gguf_head(metadata, tensors)
    return Generated(size, seed, head)


def _language(dtype: str, file_type: int, shard: int = 0) -> Generated:
    """A quantisation whole, or its `shard` of two."""
    blocks = [
        Tensor(f"blk.{layer}.ffn_{one}.weight", dtype, (256, 512))
        for layer in range(4)
        for one in ("gate", "up")
    ]
    tensors = [
        Tensor("token_embd.weight", dtype, (256, 512)),
        *blocks,
        Tensor("output_norm.weight", "F32", (256,)),
    ]
    metadata: dict[str, object] = {
        "general.architecture": "llama",
        "general.name": "Demo Quants",
        "general.file_type": file_type,
        "llama.context_length": 2048,
        "llama.embedding_length": 256,
        "llama.block_count": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(_WORDS),
        "tokenizer.chat_template": _CHAT,
    }
    if not shard:
        return _gguf(f"quants-{dtype}", metadata, tensors)
    split: dict[str, object] = {"split.no": Short(shard - 1), "split.count": Short(2)}
    split["split.tensors.count"] = Signed(len(tensors))
    half = tensors[:5] if shard == 1 else tensors[5:]
    shown = metadata if shard == 1 else {"general.architecture": "llama"}
    return _gguf(f"quants-{dtype}-{shard}", {**shown, **split}, half)


def _texts(
    name: str, *, width: int, layers: int, vocabulary: int, licence: str = "apache-2.0"
) -> dict[str, str | Content]:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_hidden_layers": layers,
        "torch_dtype": "bfloat16",
        "vocab_size": vocabulary,
    }
    tokenizer = {
        "version": "1.0",
        "model": {
            "type": "WordLevel",
            "vocab": {word: number for number, word in enumerate(_WORDS)},
            "unk_token": "<unk>",
        },
    }
    return {
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": _card(name, {"license": licence, "library_name": "transformers"}),
        "config.json": json.dumps(config, indent=2) + "\n",
        "tokenizer.json": json.dumps(tokenizer, indent=2) + "\n",
        "tokenizer_config.json": json.dumps({"chat_template": _CHAT}, indent=2) + "\n",
    }


def _card(name: str, keys: Mapping[str, str]) -> str:
    front = {"license": "apache-2.0", "pipeline_tag": "text-generation", **keys}
    lines = "".join(f"{key}: {value}\n" for key, value in front.items())
    return (
        f"---\n{lines}---\n\n# {name}\n\n"
        "A model of the modelbay demo. Its weights are noise that follows from its name, so\n"
        "that everything about it can be checked and nothing has to be downloaded.\n"
    )
