import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.errors import FileNotFound
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.selection import is_weight, select, variant_of, variants
from modelbay.snapshot import ModelFile, Snapshot

FIXTURES = Path(os.environ.get("MODELBAY_FIXTURES", Path(__file__).parents[2] / "shared/fixtures"))


def a_file(path: str, size: int = 1) -> ModelFile:
    return ModelFile(SafeRelPath.parse(path), size)


def a_snapshot(*paths: str) -> Snapshot:
    ref = ModelRef("huggingface", "hf", "org/name")
    return Snapshot(ref, "0" * 40, tuple(a_file(path) for path in paths))


REPO = a_snapshot(
    "README.md",
    "config.json",
    "m-00001-of-00002.safetensors",
    "m-00002-of-00002.safetensors",
    "model-Q4_K_M.gguf",
    "model-Q8_0.gguf",
    "mmproj-BF16.gguf",
    "mmproj-F16.gguf",
    "tokenizer/vocab.json",
)


def chosen(**wanted) -> list[str]:
    return [str(file.path) for file in select(REPO, **wanted).files]


def test_without_a_choice_everything_is_wanted_in_path_order():
    assert chosen() == sorted(file.path for file in REPO.files)


def test_one_shard_brings_its_siblings():
    assert chosen(include=["*00001-of-00002*"]) == [
        "m-00001-of-00002.safetensors",
        "m-00002-of-00002.safetensors",
    ]


def test_a_variant_brings_one_projector_and_the_companions():
    assert chosen(variant="q4_k_m") == [
        "README.md", "config.json", "mmproj-F16.gguf", "model-Q4_K_M.gguf", "tokenizer/vocab.json",
    ]  # fmt: skip


def test_a_glob_that_ends_in_a_slash_takes_the_folder():
    assert chosen(include=["tokenizer/"]) == ["tokenizer/vocab.json"]


def test_a_glob_without_slash_matches_the_name_in_any_folder():
    assert chosen(include=["vocab.*"]) == ["tokenizer/vocab.json"]


def test_what_is_excluded_is_left_out_whatever_was_included():
    assert chosen(include=["*.json", "*.md"], exclude=["config.*"]) == [
        "README.md",
        "tokenizer/vocab.json",
    ]


def test_a_path_may_name_a_file_or_a_folder():
    assert chosen(path="config.json") == ["config.json"]
    assert chosen(path="tokenizer") == ["tokenizer/vocab.json"]


def test_a_file_that_is_not_there_is_refused_with_the_near_names():
    with pytest.raises(FileNotFound) as raised:
        chosen(path="confg.json")

    assert "config.json" in raised.value.hint


def test_an_unknown_variant_is_refused_with_the_known_ones():
    with pytest.raises(FileNotFound) as raised:
        chosen(variant="Q5_K_M")

    assert "Q4_K_M" in raised.value.hint
    assert "Q8_0" in raised.value.hint


def test_globs_that_leave_nothing_are_refused():
    with pytest.raises(FileNotFound):
        chosen(include=["*.onnx"])


@pytest.mark.parametrize(
    ("path", "variant"),
    [
        ("model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.fp16.safetensors", "FP16"),
        ("Q8_0/model-00001-of-00002.gguf", "Q8_0"),
        ("x-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("x-IQ2_XXS.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Jan-v3.5-4B.gguf", None),
        ("config-Q4_0.json", None),
    ],
)
def test_a_variant_is_read_from_the_name_of_a_weight_file(path, variant):
    assert variant_of(a_file(path)) == variant


@given(
    st.sets(st.sampled_from([file.path for file in REPO.files])),
    st.sampled_from(["*", "*.json", "m-*", "*.gguf"]),
)
def test_no_selection_holds_half_of_a_sharded_file(paths, glob):
    snapshot = a_snapshot(*sorted(paths))
    try:
        names = {file.path for file in select(snapshot, include=[glob]).files}
    except FileNotFound:
        return

    shards = {path for path in paths if "-of-" in path}
    assert not names & shards or shards <= names


def test_most_recorded_gguf_names_tell_their_variant():
    listing = FIXTURES / "listings/gguf-repos.json"
    if not listing.exists():
        pytest.skip("1 recorded listing is not here (MODELBAY_FIXTURES)")
    repos = json.loads(listing.read_text())
    names = [
        name
        for repo in repos.values()
        if isinstance(repo, dict)
        for name, *_ in repo.get("files", [])
    ]
    safe = [
        name
        for name in names
        if not any(part.rstrip() != part or part.endswith(" .gguf") for part in name.split("/"))
    ]
    files = [ModelFile(SafeRelPath.parse(name)) for name in safe]

    untold = [file.path for file in files if is_weight(file) and variant_of(file) is None]

    print(f"{len(files)} recorded names, {len(untold)} tell no variant")
    assert len(files) > 1000
    assert len(untold) < len(files) // 8
    assert variants(files)
