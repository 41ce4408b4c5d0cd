"""The demo's models are what their names say, to any reader of their formats."""

import dataclasses
import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from modelbay.serve import Generated, demo_shelf
from modelbay.serve.content import Content, sha256_of
from modelbay.serve.formats import gguf_head
from modelbay.serve.models import LARGE_SHA256
from modelbay.serve.shelf import MemoryShelf, ShelfRepo

SHELF = demo_shelf()
WIDTHS = {"F32": 4, "BF16": 2}
GGML = {0: (1, 4), 1: (1, 2), 8: (32, 34), 12: (256, 144)}
FORMS = {2: "<H", 4: "<I", 5: "<i", 6: "<f"}


def repo_of(name: str, shelf: MemoryShelf = SHELF) -> ShelfRepo:
    repo = shelf.repo(name)
    assert repo is not None
    return repo


def contents(name: str, ending: str) -> Mapping[str, Content]:
    repo = repo_of(name)
    return {
        path: SHELF.open(repo, repo.commit, path)
        for path in SHELF.files(repo, repo.commit)
        if path.endswith(ending)
    }


def bytes_of(content: Content, stop: int | None = None) -> bytes:
    return b"".join(content.pieces(0, content.size if stop is None else stop))


def safetensors(content: Content) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", bytes_of(content, 8))
    table: dict[str, Any] = json.loads(bytes_of(content, 8 + length)[8:])
    metadata = table.pop("__metadata__")
    assert metadata == {"format": "pt"}
    assert length % 8 == 0
    expected = 0
    for told in table.values():
        start, stop = told["data_offsets"]
        weights = 1
        for dimension in told["shape"]:
            weights *= dimension
        assert start == expected
        assert stop - start == weights * WIDTHS[told["dtype"]]
        expected = stop
    assert 8 + length + expected == content.size
    return table


class Cursor:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        length = self.take("<Q")
        self.at += length
        return self.raw[self.at - length : self.at].decode()

    def value(self, kind: int | None = None) -> Any:
        kind = self.take("<I") if kind is None else kind
        if kind == 8:
            return self.text()
        if kind == 9:
            inner = self.take("<I")
            return [self.value(inner) for _ in range(self.take("<Q"))]
        return self.take(FORMS[kind])


def gguf(content: Content) -> tuple[dict[str, Any], list[str]]:
    cursor = Cursor(bytes_of(content))
    assert cursor.raw[:4] == b"GGUF"
    cursor.at = 4
    assert cursor.take("<I") == 3
    tensors, keys = cursor.take("<Q"), cursor.take("<Q")
    metadata = {cursor.text(): cursor.value() for _ in range(keys)}
    names = []
    expected = 0
    for _ in range(tensors):
        names.append(cursor.text())
        weights = 1
        for _ in range(cursor.take("<I")):
            weights *= cursor.take("<Q")
        per_block, size = GGML[cursor.take("<I")]
        assert cursor.take("<Q") == expected
        assert weights % per_block == 0
        expected = -(-(expected + weights // per_block * size) // 32) * 32
    head = -(-cursor.at // 32) * 32
    assert head + expected == content.size
    return metadata, names


@pytest.mark.parametrize("name", ["demo/tiny-llm", "demo/gated-llm", "demo/large-llm"])
def test_a_safetensors_file_is_exactly_what_its_header_says(name: str):
    (content,) = contents(name, ".safetensors").values()

    assert safetensors(content)


def test_the_index_names_the_shard_that_holds_each_tensor():
    shards = contents("demo/sharded-llm", ".safetensors")
    (index,) = contents("demo/sharded-llm", ".index.json").values()

    held = {tensor: name for name, shard in shards.items() for tensor in safetensors(shard)}

    assert len(shards) == 3
    assert json.loads(bytes_of(index))["weight_map"] == held


def test_every_quantisation_is_exactly_what_its_header_says():
    parsed = {name: gguf(one) for name, one in contents("demo/gguf-quants", ".gguf").items()}

    assert {name: metadata["general.architecture"] for name, (metadata, _) in parsed.items()} == {
        "F16/gguf-quants-F16-00001-of-00002.gguf": "llama",
        "F16/gguf-quants-F16-00002-of-00002.gguf": "llama",
        "gguf-quants-Q4_K_M.gguf": "llama",
        "gguf-quants-Q8_0.gguf": "llama",
        "mmproj-gguf-quants-F16.gguf": "clip",
    }


def test_split_files_together_hold_every_tensor_of_the_whole():
    parsed = {name: gguf(one) for name, one in contents("demo/gguf-quants", ".gguf").items()}
    first, first_names = parsed["F16/gguf-quants-F16-00001-of-00002.gguf"]
    second, second_names = parsed["F16/gguf-quants-F16-00002-of-00002.gguf"]

    assert (first["split.no"], second["split.no"]) == (0, 1)
    assert first["split.count"] == second["split.count"] == 2
    assert first_names + second_names == parsed["gguf-quants-Q8_0.gguf"][1]
    assert first["split.tensors.count"] == len(first_names + second_names)


def test_the_large_models_sha256_is_the_one_that_is_said():
    (content,) = contents("demo/large-llm", ".safetensors").values()
    assert isinstance(content, Generated)

    observed = sha256_of(dataclasses.replace(content, known_sha256=None))

    assert observed == LARGE_SHA256
    assert content.size > 1 << 30


def test_two_demos_are_one_demo():
    again = demo_shelf()

    assert [repo.commit for repo in again.repos()] == [repo.commit for repo in SHELF.repos()]


def test_cards_say_the_licence_that_the_facts_say():
    for repo in SHELF.repos():
        card = bytes_of(SHELF.open(repo, repo.commit, "README.md")).decode()
        assert card.startswith("---\n")
        assert f"\nlicense: {repo.facts.licence}\n" in card


def test_what_the_gate_guards_is_said():
    assert repo_of("demo/gated-llm").facts.gated == "auto"
    assert repo_of("old-demo/tiny-llm").id == "demo/tiny-llm"


def test_a_value_that_gguf_has_no_type_for_is_a_mistake():
    with pytest.raises(TypeError, match="dict"):
        gguf_head({"general.name": {}}, [])
