"""What a provision file says, as values; the seed's own examples among them."""

import hashlib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbay.bay import Bay
from modelbay.config import Settings
from modelbay.errors import UsageError
from modelbay.provision import Entry, Provision
from modelbay.provision.canonical import toml
from modelbay.provision.document import manifest_hash

SEED = Path(os.environ.get("MODELBAY_SEEDS", "/nowhere")) / "model-provisioning.md"
COMPLETE = """
# The examples of the provisioning format that people already write, in one file.
[models.checkpoints.sdxl-base]
source = "huggingface"
repo = "stabilityai/stable-diffusion-xl-base-1.0"
file = "sd_xl_base_1.0.safetensors"
gated = false  # Set to true for gated models (requires HF_TOKEN)

[models.lora.detail-tweaker]
source = "civitai"
version_id = "58390"
filename = "custom_name.safetensors"  # Optional

[models.vae.model-name]
source = "url"
url = "https://example.com/model.safetensors"
filename = "model.safetensors"
headers = { "Authorization" = "Bearer token" }  # Optional

[models.checkpoints.gdrive-model]
source = "url"
url = "https://drive.google.com/file/d/1ABC123DEF456/view?usp=sharing"
filename = "custom-name.safetensors"

[models.lora]
simple-model = "https://example.com/model.safetensors"

[models.text_encoder.clip_l]
source = "huggingface"
repo = "comfyanonymous/flux_text_encoders"
file = "clip_l.safetensors"

[models.text_encoder.t5xxl_fp8]
source = "huggingface"
repo = "comfyanonymous/flux_text_encoders"
file = "t5xxl_fp8_e4m3fn.safetensors"
"""
OURS = '[sources.ours]\ntype = "huggingface"\n'


def read(text: str, folder: Path, **chosen: Any) -> Provision:
    path = folder / "a.toml"
    path.write_text(text)
    environ = {"HOME": str(folder)}
    with Bay.open(settings=Settings(**chosen), environ=environ) as bay:
        return bay.provision(path)


def only(text: str, folder: Path, **chosen: Any) -> Entry:
    (entry,) = read(text, folder, **chosen).entries
    return entry


def test_the_examples_that_people_already_write_are_read_as_they_stand(tmp_path: Path):
    provision = read(COMPLETE, tmp_path)

    assert [entry.id for entry in provision.entries] == [
        "checkpoints/gdrive-model",
        "checkpoints/sdxl-base",
        "lora/detail-tweaker",
        "lora/simple-model",
        "text_encoder/clip_l",
        "text_encoder/t5xxl_fp8",
        "vae/model-name",
    ]
    assert not provision.later


@pytest.mark.skipif(not SEED.is_file(), reason="$MODELBAY_SEEDS does not name the seeds")
def test_every_block_of_the_seed_is_read_as_it_stands(tmp_path: Path):
    blocks = re.findall(r"```toml\n(.*?)```", SEED.read_text().replace("   ", ""), re.DOTALL)
    for block in blocks:
        read(block, tmp_path)

    assert len(blocks) >= 7


def test_sources_of_later_versions_are_all_named_at_once(tmp_path: Path):
    text = """
[models.lora.a]
source = "git-xet"
url = "https://host/a"
[models.llm.b]
source = "git-lfs"
url = "https://host/b"
[models.llm]
c = "xet://host/c"
"""
    with pytest.raises(UsageError) as caught:
        read(text, tmp_path).refuse_later()

    assert str(caught.value) == (
        f"{tmp_path}/a.toml:5:2: llm/b (git-lfs), llm/c (git-xet), lora/a (git-xet) ask for sources "
        "that this version does not have"
    )


@pytest.mark.parametrize(
    "text",
    [
        '[models.llm.x]\nsource = "huggingface"\nrepo = "org/x"\nrevision = "v1"',
        '[models.llm.x]\nsource.huggingface = { repo = "org/x", revision = "v1" }',
        '[models.llm.x]\nsource.huggingface.repo = "org/x"\nsource.huggingface.revision = "v1"',
        '[models.llm.x.source.huggingface]\nrepo = "org/x"\nrevision = "v1"',
        OURS + 'revision = "v1"\n[models.llm.x]\nsource = "ours"\nrepo = "org/x"',
        OURS + 'revision = "v1"\n[models.llm]\nx = "ours:org/x"',
        OURS + 'revision = "v2"\n[models.llm.x]\nsource.ours.repo = "org/x"\nrevision = "v1"',
    ],
)
def test_one_entry_can_be_written_in_many_ways(text: str, tmp_path: Path):
    entry = only(text, tmp_path)

    assert (entry.id, entry.source) == ("llm/x", "huggingface")
    assert entry.original == {"repo": "org/x", "revision": "v1"}


def test_a_factory_of_the_settings_counts_in_every_file(tmp_path: Path):
    ours = {"ours": {"type": "huggingface", "revision": "v1"}}
    entry = only('[models.llm]\nx = "ours:org/x"', tmp_path, sources=ours)

    assert entry.original == {"repo": "org/x", "revision": "v1"}


def test_an_id_may_be_a_number_and_one_name_may_stand_for_a_list(tmp_path: Path):
    text = '[models.llm.x]\nsource = "huggingface"\nrepo = "o/x"\nrevision = 2\ninclude = "*.bin"'
    entry = only(text, tmp_path)

    assert entry.original == {"include": ("*.bin",), "repo": "o/x", "revision": "2"}


def test_a_url_needs_no_source_and_the_short_form_no_table(tmp_path: Path):
    text = '[models.vae]\nb = "https://Host/b"\n[models.vae.a]\nurl = "https://host/a"'
    first, second = read(text, tmp_path).entries

    assert (first.source, first.original) == ("url", {"url": "https://host/a"})
    assert (second.source, second.ref) == ("url", "https://host/b")


def test_an_entry_cannot_be_changed(tmp_path: Path):
    keys: Any = only('[models.vae]\na = "https://host/a"', tmp_path).keys

    with pytest.raises(TypeError):
        keys["url"] = "https://elsewhere/a"


def test_a_secret_header_and_a_token_file_stay_out_of_a_lock_and_it_is_said_how_to_move_them(
    tmp_path: Path,
):
    text = """
[models.vae.a]
url = "https://host/a"
headers = { Authorization = "Bearer hf_secret", X-Api-Key = "k", Accept = "*/*" }
auth = { token_file = "/run/secrets/token" }
"""
    provision = read(text, tmp_path)
    (entry,) = provision.entries

    assert entry.original == {"url": "https://host/a", "headers": {"Accept": "*/*"}}
    assert entry.lockable_auth == {}
    assert len(provision.notes) == 3
    assert 'auth = { header_env = { Authorization = "VAR" } }' in provision.notes[0]
    assert "hf_secret" not in "".join(provision.notes)


def test_both_spellings_of_a_token_variable_are_one_in_a_lock(tmp_path: Path):
    text = '[models.vae.a]\nurl = "https://host/a"\nauth = { token_env_var = "T" }'

    assert only(text, tmp_path).lockable_auth == {"token_env": "T"}


def test_a_strange_category_is_told_with_its_line_and_taken(tmp_path: Path):
    provision = read('[models.checkpoint]\na = "https://host/a"', tmp_path)

    (note,) = provision.notes
    assert note == (
        f"{tmp_path}/a.toml:1:2: nobody knows the category 'checkpoint', did you mean "
        "'checkpoints'? It gets a folder of its own name"
    )
    assert provision.entries[0].category == "checkpoint"


def test_the_manifest_hash_is_the_same_for_every_way_of_writing_a_document():
    one = tomllib.loads('a = 1\n[b]\nc = "ü"\nd = [1, 2]')
    other = tomllib.loads('b.d = [1, 2]\nb.c = "\\u00fc"\na = 1')

    text = '{"a":1,"b":{"c":"ü","d":[1,2]}}'
    expected = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    assert [manifest_hash(one), manifest_hash(other)] == [expected] * 2


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_a_lock_holds_is_read_back_and_written_as_it_was(value: object):
    text = toml(value)

    assert tomllib.loads(f"x = {text}")["x"] == value
    assert toml(tomllib.loads(f"x = {text}")["x"]) == text


NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=8).filter(
    lambda name: not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", name)
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    models=st.dictionaries(
        NAMES,
        st.fixed_dictionaries(
            {"repo": NAMES.map("org/{}".format)},
            optional={
                "revision": NAMES,
                "files": st.lists(NAMES, min_size=1, max_size=3),
                "exclude": st.lists(NAMES, min_size=1, max_size=3),
                "gated": st.booleans(),
            },
        ),
        min_size=1,
        max_size=4,
    )
)
def test_an_entry_written_from_what_was_read_is_read_as_the_same(
    models: dict[str, dict[str, object]], tmp_path: Path
):
    def written(entries: dict[str, dict[str, object]]) -> str:
        lines = [f"{toml({'x': {'source': 'huggingface', **keys}})}" for keys in entries.values()]
        pairs = zip(entries, lines, strict=True)
        return "[models.llm]\n" + "".join(f"{toml(n)} = {t[6:-2]}\n" for n, t in pairs)

    first = read(written(models), tmp_path)
    again = {entry.name: entry.original for entry in first.entries}

    assert read(written(again), tmp_path).entries == first.entries


def test_ten_thousand_entries_with_a_note_each_are_told_at_their_lines(tmp_path: Path):
    entry = '[models.lora.m{0}]\nurl = "https://host/{0}"\nheaders = {{ X-Key = "{0}" }}\n'
    provision = read("".join(map(entry.format, range(10_000))), tmp_path)

    assert len(provision.entries) == 10_000
    assert provision.notes[-1].startswith(f"{tmp_path}/a.toml:29998:2: lora/m9999 has X-Key")


def test_keys_of_sources_that_are_not_here_yet_stop_nobody_from_reading_the_rest(tmp_path: Path):
    text = """
[models.reg.mlflow]
source.mlflow.tracking_uri = "https://mlflow.example.com"
source.mlflow.model_name = "production-model"
source.mlflow.model_version = 3
[models.reg.s3]
source.s3 = { bucket = "models", prefix = "bert/", endpoint = "http://minio.local:9000" }
[models.reg.git]
source.git-lfs = { url = "https://host/org/repo.git", rev = "v1.0.0", subdir = "a" }
[models.reg.xet]
source.git-xet = { url = "xet://host/org/model", rev = "main" }
[models.reg.ollama]
source.ollama = { model = "llama2", tag = "7b" }
[models.reg.hub]
source.huggingface.repo = "meta-llama/Llama-2-7b-hf"
auth.token_env_var = "HF_TOKEN"
[models.reg.mock]
source.mock = { org = "test", model = "empty", files = ["config.json"], commit_sha = "abc123" }
"""
    provision = read(text, tmp_path)

    here = {one.id.partition("/")[2]: one.source for one in provision.entries}
    later = {one.id.partition("/")[2]: one.source for one in provision.later}
    assert here | later == {
        "mlflow": "mlflow", "s3": "s3", "git": "git-lfs", "xet": "git-xet", "ollama": "ollama",
        "hub": "huggingface", "mock": "mock",
    }  # fmt: skip
