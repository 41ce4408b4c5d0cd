"""Manifests and challenges of registries, read: the recorded ones too."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from modelbay.errors import ServerTrouble, UnsafeName
from modelbay.http import Answer
from modelbay.sources.ollama_facts import licence_of, read_config
from modelbay.wire.oci import Challenge, read_challenge, refusal_of
from modelbay.wire.oci_manifest import read_manifest

RECORDED = Path(os.environ.get("MODELBAY_FIXTURES", "/nowhere")) / "ollama"
recorded = pytest.mark.skipif(not RECORDED.is_dir(), reason="no recorded answers: 15 files")
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
SHARDED = (
    "This repository only contains sharded GGUF files. Ollama does not yet support pulling "
    "sharded GGUF"
)
MEDIA = "application/vnd.ollama.image."


def manifest(*layers: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": layers, **more}).encode()


def layer(kind: str = "model", digest: str = A, size: Any = 1, **more: Any) -> dict[str, Any]:
    return {"mediaType": MEDIA + kind, "digest": digest, "size": size, **more}


def names(content: bytes) -> list[str]:
    return [one.name for one in read_manifest(content, "here").layers]


def test_layers_get_names_by_their_kinds_and_the_configuration_comes_last():
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": B, "size": 2}

    assert names(manifest(layer(), config=config)) == ["model.gguf", "config.json"]


def test_layers_of_one_kind_are_numbered():
    assert names(manifest(layer("license"), layer("license", B))) == ["license", "license-2"]


def test_a_blob_that_is_named_twice_is_one_file():
    assert names(manifest(layer(), layer("adapter"))) == ["model.gguf"]


def test_tensors_have_the_names_that_the_manifest_gives_them():
    content = manifest(layer("tensor", name="blk.0.q"), layer("json", B, name="sub/tokenizer.json"))

    assert names(content) == ["blk.0.q.safetensors", "sub/tokenizer.json"]


def test_a_file_that_is_called_like_the_manifest_gets_a_number():
    assert names(manifest(layer("json", name="manifest.json"))) == ["manifest-2.json"]


def test_layers_of_other_tools_have_the_titles_that_those_wrote():
    title = {"org.opencontainers.image.title": "weights.safetensors"}
    row = {**layer(), "mediaType": "application/octet-stream", "annotations": title}

    assert names(manifest(row)) == ["weights.safetensors"]


@pytest.mark.parametrize(
    "digest",
    [
        *("sha256:../../etc/passwd", "sha256:" + "A" * 64, "sha256:" + "a" * 63),
        *("sha256:" + "a" * 65, "sha256-" + "a" * 64, "sha256:" + "a" * 64 + "\n", "", None, 7),
        *("sha512:" + "a" * 128, "sha256:" + "a" * 64 + "/..", "sha256:" + "٣" * 64),
    ],
)
def test_a_digest_that_is_none_is_refused_before_it_is_a_name(digest: Any):
    with pytest.raises(UnsafeName):
        read_manifest(manifest(layer(digest=digest)), "here")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\\b", "a/../b", ".modelbay/x", "x\x00y"])
def test_a_name_that_leaves_the_folder_is_refused(name: str):
    with pytest.raises(UnsafeName):
        read_manifest(manifest(layer("json", name=name)), "here")


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"<html>", b"[]", b"{}", b'{"layers": 1}', b'{"layers": [1]}', b"[" * 100_000),
        *(b'{"manifests": []}', b'{"errors":[{"code":"MANIFEST_INVALID"}]}', b" " * (5 << 20)),
        *(manifest(layer(size=-1)), manifest(layer(size="1")), manifest(layer(size=True))),
    ],
    ids=range(13),
)
def test_what_is_no_manifest_of_one_model_is_the_servers_trouble(content: bytes):
    with pytest.raises(ServerTrouble):
        read_manifest(content, "here")


def test_a_challenge_says_where_a_token_is_given():
    found = read_challenge('Bearer realm="https://o.com/token",service="o",scope="a:b:pull c:d:x"')

    assert found == Challenge("https://o.com/token", "o", ("a:b:pull", "c:d:x"))


def test_the_query_for_a_token_is_sorted_by_its_keys_as_go_writes_it():
    url = Challenge("https://o.com/token?z=1", "o c", ("s2", "s1")).url({"nonce": "n", "ts": "1"})

    assert url == "https://o.com/token?nonce=n&scope=s2&scope=s1&service=o+c&ts=1&z=1"


@pytest.mark.parametrize("header", ["", "Basic realm=x", "Bearer", 'Bearer realm="file:///x"'])
def test_another_challenge_is_none(header: str):
    assert read_challenge(header) is None


def test_licences_are_known_by_how_they_begin_and_hold_together():
    found = licence_of(
        ["\n  MIT License\n\nCopyright", "Apache License\nVersion 2.0, January 2004"]
    )

    assert (found.spdx, found.raw) == ("MIT AND Apache-2.0", "MIT License, Apache License")


def test_a_licence_of_ones_own_has_no_identifier():
    found = licence_of(["LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\n…"])

    assert (found.spdx, found.raw) == (None, "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT")


@recorded
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "manifest-llama3.1-8b.json",
            ["model.gguf", "template", "license", "params.json", "config.json"],
        ),
        (
            "manifest-qwen2.5-7b-with-system.json",
            ["model.gguf", "system", "template", "license", "config.json"],
        ),
        (
            "disk/manifests/registry.ollama.ai/library/llama3.2/3b",
            ["model.gguf", "template", "license", "license-2", "params.json", "config.json"],
        ),
        (
            "disk/manifests/registry.ollama.ai/library/gemma/2b",
            ["model.gguf", "license", "template", "params.json", "config.json"],
        ),
    ],
)
def test_recorded_manifests_are_read(name: str, wanted: list[str]):
    assert names((RECORDED / name).read_bytes()) == wanted


@recorded
def test_the_digest_of_a_recorded_manifest_is_what_ollama_shows():
    content = (RECORDED / "disk/manifests/registry.ollama.ai/library/gemma/2b").read_bytes()

    assert read_manifest(content, "here").digest.hex.startswith("b50d6c999e59")


@recorded
def test_a_projector_may_come_before_the_model():
    content = (RECORDED / "manifest-qwen3.8-27b-mtp.shape.json").read_bytes()
    for name in ("proj", "model", "lic", "params"):
        digest = hashlib.sha256(name.encode()).hexdigest()
        content = content.replace(f"sha256:{name}".encode(), f"sha256:{digest}".encode())

    assert names(content)[:2] == ["projector.gguf", "model.gguf"]


@recorded
@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (
            "disk/blobs/sha256-e711233e734332fe5f8a09b2407fb5a083e39ca7e0ba90788026414cd4c059af",
            "file_type",
            "Q4_0",
        ),
        ("config-qwen3.8.partial.json", "requires", "0.32.12"),
        ("params-qwen3.8.json", "top_k", 20),
    ],
)
def test_recorded_configurations_are_read(name: str, key: str, value: object):
    assert read_config((RECORDED / name).read_bytes())[key] == value


@recorded
def test_every_recorded_refusal_keeps_its_sentence_and_no_markup():
    rows = json.loads((RECORDED / "errors.json").read_bytes())
    bodies = [row["body"] for row in rows if isinstance(row.get("status"), int) and "body" in row]
    said = [
        refusal_of(
            Answer(400, "https://x/", b.encode() if isinstance(b, str) else json.dumps(b).encode())
        ).said
        for b in bodies
    ]

    assert said == [
        "404 page not found",
        "manifest invalid",
        SHARDED,
        'The specified tag is not a valid quantization scheme. Please use another tag or "latest"',
        "The specified GGUF file does not exist.",
        *("", ""),
    ]


@recorded
def test_the_recorded_challenge_of_the_hub_is_read():
    rows = json.loads((RECORDED / "errors.json").read_bytes())
    header = next(row["headers"]["Www-Authenticate"] for row in rows if "headers" in row)

    assert read_challenge(header) == Challenge("https://huggingface.co/v2/token", "", ())


@recorded
def test_the_body_of_a_recorded_redirect_is_no_sentence():
    body = (RECORDED / "blob-redirect-body.html").read_bytes()

    assert refusal_of(Answer(307, "https://x/", body)).said == ""
