"""Ollama's registry from one command, one entry and one lock, against a double that answers as
it does.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FileNotFound,
    FormatError,
    ModelDisabled,
    ModelNotFound,
    NoSearch,
    RefError,
    RevisionNotFound,
    ServerTrouble,
    UnsafeName,
    UsageError,
    WrongBytes,
)
from modelbay.http import Client
from modelbay.location import Http
from modelbay.refs import ModelRef, parse
from modelbay.snapshot import Query
from modelbay.sources.base import Means
from modelbay.sources.huggingface import HuggingFace
from modelbay.sources.ollama import Ollama
from modelbay.sources.url import Url
from modelbay.transfer import held_bytes
from tests.doubles.ollama import (
    DOCKER,
    MEDIA,
    OllamaDouble,
    foreign_host,
    new_key,
    sha256,
    weights,
)
from tests.syncing import Machine

PUBLIC = "ollama://registry.ollama.ai"
WEIGHTS = weights("a", 300_000)
TINY = {
    "model": WEIGHTS,
    "template": b"{{ .Prompt }}",
    "license": b"MIT License\n",
    "params": b"{}",
}
ENTRY = '[models.llm.tiny]\nsource = "ollama"\nmodel = "tiny"\ntag = "1b"\nlayout = "ollama"\n'


@pytest.fixture
def double() -> Iterator[OllamaDouble]:
    with OllamaDouble() as double:
        double.put("library/tiny:1b", TINY, {"model_format": "gguf", "requires": "0.9.1"})
        yield double


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as client:
        yield client


def source(
    client: Client, endpoint: str | None = None, environ: dict[str, str] | None = None
) -> Ollama:
    credentials = Credentials({"HOME": "/nowhere", **(environ or {})})
    return Ollama(Means(client, credentials, endpoint))


def machine(double: OllamaDouble, home: Path, **more: str) -> Machine:
    return Machine(None, home, {"MODELBAY_OLLAMA_ENDPOINT": double.registry, **more})


def store(one: Machine) -> Path:
    return one.home / ".ollama/models"


def manifest_of(double: OllamaDouble, one: Machine, name: str = "library/tiny/1b") -> Path:
    return store(one) / "manifests" / double.host / name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ollama:llama2", f"{PUBLIC}/library/llama2:latest"),
        ("ollama:llama3.2:3b", f"{PUBLIC}/library/llama3.2:3b"),
        ("ollama://ns/model:tag", f"{PUBLIC}/ns/model:tag"),
        ("ollama://localhost:5000/a/b", "ollama://localhost:5000/a/b:latest"),
        ("ollama:Registry.Example/NS/Model:Tag", "ollama://registry.example/NS/Model:Tag"),
        (
            "ollama:http://127.0.0.1:1/a/b:c",
            "ollama://127.0.0.1:1/a/b:c?endpoint=http://127.0.0.1:1",
        ),
        ("ollama:hf.co/Org/Name-GGUF:Q4_K_M", "ollama://hf.co/Org/Name-GGUF:Q4_K_M"),
        ("hf.co/Org/Name-GGUF:Q4_K_M", "ollama://hf.co/Org/Name-GGUF:Q4_K_M"),
        ("registry.ollama.ai/library/llama2:7b", f"{PUBLIC}/library/llama2:7b"),
        ("https://ollama.com/library/llama3.1:8b", f"{PUBLIC}/library/llama3.1:8b"),
        ("https://ollama.com/library/llama3.1/tags", f"{PUBLIC}/library/llama3.1:latest"),
        ("https://www.ollama.com/someone/model", f"{PUBLIC}/someone/model:latest"),
        ("oci://ghcr.io/org/deep/repo:v1", "oci://ghcr.io/org/deep/repo:v1"),
        ("oci://localhost:5000/repo", "oci://localhost:5000/repo:latest"),
        ("ollama:a/b/c/d:e", "oci://a/b/c/d:e"),
        ("oci://ghcr.io/org/repo:v1", "ollama://ghcr.io/org/repo:v1"),
        (f"ollama:m@sha256:{'a' * 64}", f"{PUBLIC}/library/m:latest@sha256:{'a' * 64}"),
        (f"{PUBLIC}/library/m:1/model.gguf", f"{PUBLIC}/library/m:1/model.gguf"),
        (
            f"{PUBLIC}/library/m:1@sha256%3A{'a' * 64}/model.gguf",
            f"{PUBLIC}/library/m:1@sha256:{'a' * 64}/model.gguf",
        ),
    ],
)
def test_a_name_is_read_from_the_right_and_written_whole(client: Client, text: str, wanted: str):
    ref = parse(text, forms(client))

    assert (str(ref), parse(str(ref), forms(client))) == (wanted, ref)


def forms(client: Client) -> list[HuggingFace | Ollama | Url]:
    means = Means(client, Credentials({}))
    return [HuggingFace(means), Ollama(means), Url(means)]


@pytest.mark.parametrize(
    "text",
    [
        *("ollama:", "ollama:a/", "ollama:x:", "ollama:a//b", "ollama:../x", "ollama:x:y:z"),
        *("ollama:-x", "ollama:n.s/model", "oci://repo", "ollama:ftp://h/a/b"),
        *("ollama:m@sha256:abc", f"ollama:m@sha256:{'A' * 64}", "ollama:m?x=1", "ollama:m%2Fx"),
        *(
            "ollama:a/b?endpoint=https://h/path",
            "ollama://h/a/b?endpoint=https://other",
            "ollama:ü",
        ),
    ],
)
def test_a_name_that_ollama_has_not_is_refused(client: Client, text: str):
    ref = None
    with pytest.raises(RefError) as found:
        ref = parse(text, [source(client)])

    assert ref is None
    assert found.value.hint


def test_pages_that_are_no_model_and_pages_of_the_hub_are_left_to_others(client: Client):
    one = source(client)
    texts = [
        "https://ollama.com/search?q=x",
        "https://ollama.com/",
        "https://hf.co/a/b",
        "hf.co/a/b",
    ]

    assert [one.recognise(text) for text in texts] == [None] * 4


@pytest.mark.parametrize(
    "text",
    [
        *("ollama:llama2:7b", "ollama://ns/model", "oci://h:1/repo:v1", "oci://h/a/b/c:v1"),
        *("ollama:http://h:1/a/b:c", f"ollama:m@sha256:{'a' * 64}", "hf.co/Org/Name:Q4_K_M"),
    ],
)
def test_the_keys_of_a_ref_mean_it_again(client: Client, text: str):
    one = source(client)
    ref = parse(text, [one])

    assert one.ref_of(one.keys_of(ref)) == ref


def test_the_keys_of_the_documents_are_understood(client: Client):
    ref = source(client).ref_of({"model": "llama2", "tag": "7b"})

    assert str(ref) == f"{PUBLIC}/library/llama2:7b"


@pytest.mark.parametrize("model", ["evil.example/library/llama2", "", "http://h/a/b"])
def test_a_model_names_no_host_beside_its_registry(client: Client, model: str):
    with pytest.raises(UsageError):
        source(client).ref_of({"model": model})


def test_two_questions_get_the_same_snapshot(client: Client, double: OllamaDouble):
    one = source(client, double.registry)
    ref = parse("ollama:tiny:1b", [one])

    first = one.resolve(ref)

    assert first == one.resolve(ref)
    assert first.revision == f"sha256:{first.table['manifest-digest'].removeprefix('sha256:')}"
    assert (first.licence.spdx, first.notes[0]) == ("MIT", "it needs Ollama 0.9.1 or newer")


def test_a_manifest_is_had_by_its_digest_and_by_its_tag_where_that_is_all(
    client: Client, double: OllamaDouble
):
    one = source(client, double.registry)
    ref = parse("ollama:tiny:1b", [one])
    pinned = ref.at(one.resolve(ref).revision)

    by_digest = one.resolve(pinned)
    double.by_digest = False

    assert one.resolve(pinned).files == by_digest.files


def test_a_manifest_that_its_tag_no_longer_stands_for_is_not_there(
    client: Client, double: OllamaDouble
):
    one = source(client, double.registry)
    ref = parse("ollama:tiny:1b", [one])
    pinned = ref.at(one.resolve(ref).revision)
    double.put("library/tiny:1b", {"model": weights("new")})

    with pytest.raises(RevisionNotFound, match="its tag 1b stands for"):
        one.resolve(pinned)


def test_a_model_of_ollamas_servers_alone_is_told(client: Client, double: OllamaDouble):
    double.put("library/big:cloud", {"license": b"x"}, {"remote_host": "https://ollama.com:443"})

    with pytest.raises(ModelDisabled, match=r"runs on https://ollama\.com:443 alone"):
        source(client, double.registry).resolve(named(double, "big:cloud"))


def named(double: OllamaDouble, name: str, revision: str | None = None) -> ModelRef:
    options = (("endpoint", double.registry),)
    return ModelRef("ollama", "ollama", f"{double.host}/library/{name}", revision, None, options)


def test_a_tag_that_is_not_there_is_told_with_those_that_are(client: Client, double: OllamaDouble):
    double.lists_tags = True

    with pytest.raises(RevisionNotFound) as found:
        source(client, double.registry).resolve(named(double, "tiny:2b"))

    assert found.value.hint == "its tags: 1b"


def test_a_model_that_is_not_there_is_told(client: Client, double: OllamaDouble):
    with pytest.raises(ModelNotFound, match="has no library/none:1b"):
        source(client, double.registry).resolve(named(double, "none:1b"))


def test_a_registry_that_wants_a_newer_ollama_is_quoted(client: Client, double: OllamaDouble):
    double.refusal = (412, "\nThe model you are attempting to pull requires a newer version.\n")

    with pytest.raises(UsageError, match="requires a newer version"):
        source(client, double.registry).resolve(named(double, "tiny:1b"))


def test_a_registry_in_trouble_is_told(client: Client, double: OllamaDouble):
    double.refusal = (418, "short and stout")

    with pytest.raises(ServerTrouble, match="answered 418 about library/tiny:1b: short and stout"):
        source(client, double.registry).resolve(named(double, "tiny:1b"))


def test_a_configuration_with_other_bytes_is_refused(client: Client, double: OllamaDouble):
    double.broken = {digest for digest, body in double.blobs.items() if b"requires" in body}

    with pytest.raises(WrongBytes, match=r"config\.json"):
        source(client, double.registry).resolve(named(double, "tiny:1b"))


def test_there_is_no_search_and_the_sentence_says_so(client: Client):
    with pytest.raises(NoSearch, match="no search") as found:
        list(source(client).search(Query("llama")))

    assert "https://ollama.com/search" in found.value.hint


def test_tags_are_found_where_a_registry_lists_them(client: Client, double: OllamaDouble):
    double.lists_tags = True
    double.put("library/tiny:2b", TINY)
    one = source(client, double.registry)

    hits = list(one.search(Query(f"{double.host}/library/tiny")))

    assert [hit.title for hit in hits] == ["library/tiny:1b", "library/tiny:2b"]
    assert one.resolve(hits[0].ref).files


def test_a_registry_that_lists_no_tags_has_no_search(client: Client, double: OllamaDouble):
    with pytest.raises(NoSearch, match="lists no tags"):
        list(source(client, double.registry).search(Query(f"{double.host}/library/tiny")))


def test_the_store_that_blobs_are_redirected_to_sees_no_token(tmp_path: Path, double: OllamaDouble):
    double.private, double.static = True, "s3cret"
    user = machine(double, tmp_path, MODELBAY_TOKEN_127_0_0_1="s3cret")

    assert user.run("get", "ollama:tiny:1b").code == 0
    assert {one.headers.get("authorization") for one in double.asked} == {"Bearer s3cret"}
    assert double.asked_store
    assert not any("authorization" in one.headers for one in double.asked_store)


def test_a_token_that_is_refused_ends_with_3_and_is_not_shown(tmp_path: Path, double: OllamaDouble):
    double.private = True
    said = machine(double, tmp_path, MODELBAY_TOKEN_127_0_0_1="s3cret").run("get", "ollama:tiny:1b")

    assert said.code == 3
    assert "refused MODELBAY_TOKEN_127_0_0_1" in said.err
    assert "s3cret" not in said.err


def test_without_a_token_the_sentence_says_what_to_do(tmp_path: Path, double: OllamaDouble):
    double.private = True

    said = machine(double, tmp_path).run("get", "ollama:tiny:1b")

    assert said.code == 3
    assert "export MODELBAY_TOKEN_127_0_0_1" in said.err


def test_a_token_is_had_with_ollamas_own_key(tmp_path: Path, double: OllamaDouble):
    double.private = True
    double.keys = {new_key(tmp_path / ".ollama")}
    user = machine(double, tmp_path)

    assert user.run("get", "ollama:tiny:1b").code == 0
    assert manifest_of(double, user).read_bytes() == double.manifests["library/tiny:1b"]
    assert len(double.paths("/token")) == 1


def test_a_key_that_the_registry_does_not_know_ends_with_3(tmp_path: Path, double: OllamaDouble):
    double.private = True
    new_key(tmp_path / ".ollama")

    said = machine(double, tmp_path).run("get", "ollama:tiny:1b")

    assert said.code == 3


def test_a_key_that_is_none_is_told(tmp_path: Path, double: OllamaDouble):
    double.private = True
    (tmp_path / ".ollama").mkdir()
    (tmp_path / ".ollama/id_ed25519").write_text("no key")

    said = machine(double, tmp_path).run("get", "ollama:tiny:1b")

    assert said.code == 3
    assert "is no Ed25519 key" in said.err


def test_no_other_host_learns_who_one_is(tmp_path: Path, double: OllamaDouble):
    double.private = True
    double.keys = {new_key(tmp_path / ".ollama")}
    with foreign_host() as (foreign, asked):
        double.realm = f"{foreign}/token"

        said = machine(double, tmp_path).run("get", "ollama:tiny:1b")

    assert said.code == 3
    assert asked
    assert not any("authorization" in one.headers for one in asked)


def test_a_token_that_anybody_gets_is_asked_for_and_renewed(client: Client, double: OllamaDouble):
    double.private, double.anonymous, double.seconds = True, True, 1
    one = source(client, double.registry)
    snapshot = one.resolve(named(double, "tiny:1b"))
    double.seconds = 300
    time.sleep(1)

    location = one.locate(snapshot, snapshot.files[3])

    assert isinstance(location, Http)
    assert location.credential is not None
    assert location.credential.value.reveal() == f"Bearer {list(double.given)[-1]}"
    assert (location.credential.origins, len(double.given)) == (
        frozenset({double.registry}),
        2,
    )


def test_a_replay_asks_once_whether_a_token_is_wanted(client: Client, double: OllamaDouble):
    snapshot = source(client, double.registry).resolve(named(double, "tiny:1b"))
    double.private = double.anonymous = True
    one = source(client, double.registry)

    found = [one.locate(snapshot, file) for file in snapshot.files if file.path != "manifest.json"]

    assert len(double.paths("/token")) == 1
    assert all(isinstance(location, Http) and location.credential for location in found)


def test_a_lock_is_replayed_on_an_empty_machine_and_verified(tmp_path: Path, double: OllamaDouble):
    one, other = machine(double, tmp_path / "one"), machine(double, tmp_path / "other")
    provision = one.write("team.toml", ENTRY)
    assert one.run("lock", provision).code == 0
    lock = other.write("team.lock.toml", (one.home / "team.lock.toml").read_text())
    double.manifests["library/tiny:old"] = double.manifests["library/tiny:1b"]
    double.put("library/tiny:1b", TINY | {"params": b'{"x":1}'})

    assert other.run("sync", lock).code == 0
    assert other.run("verify", lock).code == 0
    assert manifest_of(double, other).read_bytes() == double.manifests["library/tiny:old"]
    assert other.run("sync", "--check", "--deep", lock).code == 0


def test_everything_in_place_is_kept_offline(tmp_path: Path, double: OllamaDouble):
    user = machine(double, tmp_path)
    provision = user.write("team.toml", ENTRY)
    assert user.run("sync", provision).code == 0
    before = len(double.asked)

    assert user.run("sync", "--offline", user.home / "team.lock.toml").code == 0
    assert len(double.asked) == before


def test_a_get_that_was_killed_goes_on_where_it_was(tmp_path: Path, double: OllamaDouble):
    body = weights("large", 24 << 20)
    double.put("library/large:1", {"model": body})
    double.slow = 0.02
    user = machine(double, tmp_path)
    child = user.start("get", "ollama:large:1")
    part = store(user) / f".modelbay/parts/{sha256(body)}.part"
    deadline = time.monotonic() + 30
    while not held_bytes(part) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert not (store(user) / "manifests").exists()
    held = held_bytes(part)
    double.slow, before = 0.0, len(double.asked_store)

    said = user.run("get", "ollama:large:1")

    assert said.code == 0, said.err
    assert "resume" in said.err
    asked = [span(one.headers["range"]) for one in double.asked_store[before:]]
    assert 0 < sum(asked) <= len(body) - held + (1 << 20)
    assert manifest_of(double, user, "library/large/1").is_file()


def span(header: str) -> int:
    """How many bytes a Range asks for."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    return int(last) + 1 - int(first)


def test_wrong_bytes_end_with_5_and_no_manifest(tmp_path: Path, double: OllamaDouble):
    double.broken = {d for d, body in double.blobs.items() if body == WEIGHTS}
    user = machine(double, tmp_path)

    said = user.run("get", "ollama:tiny:1b")

    assert said.code == 5
    assert not list((store(user) / "manifests").rglob("1b"))
    double.broken = set()
    assert user.run("get", "ollama:tiny:1b").code == 0
    assert manifest_of(double, user).is_file()


def test_a_blob_that_is_gone_ends_with_8(tmp_path: Path, double: OllamaDouble):
    double.gone = {d for d, body in double.blobs.items() if body == WEIGHTS}

    said = machine(double, tmp_path).run("get", "ollama:tiny:1b")

    assert said.code == 8
    assert "no longer has model.gguf" in said.err


def test_a_hostile_digest_writes_nothing(tmp_path: Path, double: OllamaDouble):
    row = {"mediaType": MEDIA + "model", "digest": "sha256:../../../../x", "size": 1}
    document = {"schemaVersion": 2, "mediaType": DOCKER, "layers": [row]}
    double.put_manifest("library/evil:1", json.dumps(document).encode())
    user = machine(double, tmp_path)

    said = user.run("get", "ollama:evil:1")

    assert said.code == 5
    assert not store(user).exists()


def test_a_hostile_name_is_refused(client: Client, double: OllamaDouble):
    layer = {"mediaType": MEDIA + "json", "name": "../x", "digest": "sha256:" + "a" * 64, "size": 1}
    document = {"schemaVersion": 2, "layers": [layer]}
    double.put_manifest("library/evil:1", json.dumps(document).encode())

    with pytest.raises(UnsafeName):
        source(client, double.registry).resolve(named(double, "evil:1"))


def test_a_model_of_the_hub_comes_from_the_hub_and_goes_into_the_store(
    tmp_path: Path, double: OllamaDouble
):
    double.put("Org/Name-GGUF:Q4_K_M", TINY)
    double.hub["Org/Name-GGUF"] = {"name-Q4_K_M.gguf": WEIGHTS}
    user = machine(double, tmp_path, HF_ENDPOINT=double.registry)

    said = user.run("get", "hf.co/Org/Name-GGUF:Q4_K_M")

    assert said.code == 0, said.err
    assert (store(user) / "manifests/hf.co/Org/Name-GGUF/Q4_K_M").is_file()
    assert double.paths("/resolve/") == [f"/Org/Name-GGUF/resolve/{'c' * 40}/name-Q4_K_M.gguf"]


def test_a_model_of_the_hub_that_does_not_list_its_files_comes_as_blobs(
    tmp_path: Path, double: OllamaDouble
):
    double.put("Org/Name-GGUF:Q4_K_M", TINY)
    user = machine(double, tmp_path, HF_ENDPOINT=double.registry)

    assert user.run("get", "hf.co/Org/Name-GGUF:Q4_K_M").code == 0
    assert double.asked_store


def test_a_quantisation_that_the_hub_has_not_is_told_in_its_words(
    tmp_path: Path, double: OllamaDouble
):
    double.refusal = (400, '{"error":"The specified tag is not a valid quantization scheme."}')
    user = machine(double, tmp_path, HF_ENDPOINT=double.registry)

    said = user.run("show", "hf.co/Org/Name-GGUF:NO")

    assert said.code == 8
    assert "not a valid quantization scheme" in said.err
    assert "hf://Org/Name-GGUF" in said.err


def test_a_repository_that_is_none_of_ollamas_goes_to_the_folder_that_is_named(
    tmp_path: Path, double: OllamaDouble
):
    double.put("team/models/tiny:v1", {"model": WEIGHTS})
    user = machine(double, tmp_path)
    ref = f"oci:{double.registry}/team/models/tiny:v1"

    refused = user.run("get", ref, "--layout", "ollama")
    assert user.run("get", ref, "--to", user.home / "here").code == 0

    assert refused.code == 2
    assert "cannot go into Ollama's store" in refused.err
    assert (user.home / "here/model.gguf").read_bytes() == WEIGHTS


def test_a_table_that_names_no_model_is_refused(client: Client):
    one = source(client)
    asked = parse("ollama:m:1", [one])
    good = {"host": "h", "name": "a/b", "tag": "c", "manifest-digest": "sha256:" + "a" * 64}

    assert str(one.ref_in(good, asked)) == "ollama://h/a/b:c"
    for key, value in [("host", "h/x"), ("name", "../x"), ("tag", "a/b"), ("manifest-digest", "x")]:
        with pytest.raises(FormatError):
            one.ref_in({**good, key: value}, asked)


def test_an_empty_registry_gives_missing_credentials_a_class_of_their_own(
    client: Client, double: OllamaDouble
):
    double.private = True
    one = source(client, double.registry)

    with pytest.raises(CredentialMissing):
        one.resolve(named(double, "tiny:1b"))


def test_a_blob_of_a_model_that_is_gone_has_its_own_error(client: Client, double: OllamaDouble):
    one = source(client, double.registry)
    snapshot = one.resolve(named(double, "tiny:1b"))
    location = one.locate(snapshot, snapshot.files[3])

    assert isinstance(location, Http)
    assert location.explain is not None
    assert isinstance(location.explain(404, {}, ""), FileNotFound)
    assert isinstance(location.explain(403, {}, ""), CredentialMissing)
    assert isinstance(location.explain(500, {}, ""), ServerTrouble)


def test_a_token_for_a_host_is_not_sent_to_another(client: Client, double: OllamaDouble):
    double.private, double.static = True, "s3cret"
    one = source(client, double.registry, {"MODELBAY_TOKEN_127_0_0_1": "wrong"})

    with pytest.raises(CredentialRefused):
        one.resolve(named(double, "tiny:1b"))

    assert not double.paths("/token")
