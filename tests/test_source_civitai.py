"""CivitAI as a source: refs, snapshots, search, and the recorded answers of the real one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelbay.bay.agreeing import noted
from modelbay.bay.session import Session
from modelbay.config import Settings
from modelbay.credentials import Credentials
from modelbay.digest import Digest
from modelbay.errors import (
    CredentialRefused,
    FileNotFound,
    FormatError,
    Gated,
    ModelDisabled,
    ModelNotFound,
    PolicyError,
    RateLimited,
    RefError,
    ServerTrouble,
    UnsafeName,
    UsageError,
)
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.http.redact import shown_url
from modelbay.refs import parse
from modelbay.snapshot import Hit, Query, Snapshot
from modelbay.sources.base import Identifying, Means, Placed, Source
from modelbay.sources.civitai import CivitAI
from modelbay.sources.civitai_kinds import category_of
from modelbay.wire.civitai import next_page, refusal_of, turned_away
from modelbay.wire.civitai_answers import read_model, read_page, read_version
from tests.doubles.civitai import Civitai, File, Model, Version, weights
from tests.scripted import Reply, Scripted

FIXTURES = Path(os.environ.get("MODELBAY_FIXTURES", Path(__file__).parents[2] / "shared/fixtures"))
RECORDED = FIXTURES / "civitai"
recorded = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="7 recorded answers of CivitAI are not here (MODELBAY_FIXTURES)"
)
CLIENT = Client(hosts=Hosts(Patience(backoff=0.01, tries=2)))
V2, V1, VAE = weights("v2"), weights("v1"), weights("vae")
FULL = {"size": "full", "fp": "fp32"}
PRUNED = {"size": "pruned", "fp": "fp16"}


def catalogue() -> list[Model]:
    primary = File(91869, "VSK.safetensors", V2, facts=PRUNED)
    others = [
        File(91870, "VSK-full.safetensors", V1, facts=FULL, primary=False),
        File(91871, "VSK.vae.safetensors", VAE, type="VAE", primary=False),
    ]
    versions = [
        Version(127062, "v2.0", [primary, *others], "SD 1.5"),
        Version(13966, "v1.0", [File(12247, "VSK.safetensors", V1)], "SD 1.5"),
    ]
    early = Version(5, "v5", [File(55, "e.safetensors", V1)], availability="EarlyAccess")
    return [
        Model(11821, "VSK-94", "LORA", versions, tags=("anime", "weapon")),
        Model(2, "Second LORA", "LoCon", [Version(22, "a", [File(23, "b.pt", V1)])], downloads=50),
        Model(3, "Big", "Checkpoint", [Version(33, "xl", [File(34, "big.safetensors", V1)])]),
        Model(4, "Secret", "LORA", [Version(44, "n", [File(45, "n.safetensors", V1)])], nsfw=True),
        Model(6, "Early", "VAE", [early], creator="seller"),
        Model(7, "Old", "VAE", [], mode="Archived"),
    ]


@pytest.fixture(scope="module", autouse=True)
def _closed_client() -> Iterator[None]:
    yield
    CLIENT.close()


@pytest.fixture
def double() -> Iterator[Civitai]:
    with Civitai(*catalogue()) as made:
        yield made


def source(endpoint: str | None = None, **environ: str) -> CivitAI:
    return CivitAI(Means(CLIENT, Credentials(environ), endpoint))


def resolved(double: Civitai, text: str, **environ: str) -> Snapshot:
    made = source(double.url, **environ)
    return made.resolve(parse(text, [made]))


def with_file(double: Civitai, file: File, **version: object) -> Snapshot:
    """The snapshot of a version whose only file that is."""
    made = Version(900, "one", [file], **version)  # type: ignore[arg-type]
    double.models.append(Model(90, "Ninety", "LORA", [made]))
    return resolved(double, "civitai://900")


def test_it_is_a_source_with_a_usual_place_that_knows_whose_a_key_is():
    made: Source = source()
    placed: Placed = source()
    identifying: Identifying = source()

    assert (made.name, placed.layout) == ("civitai", "folders")
    assert isinstance(identifying, Identifying)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("civitai://58390", "civitai://58390"),
        ("civitai:58390", "civitai://58390"),
        ("civitai://58390+12", "civitai://58390+12"),
        ("civitai://58390/a b.safetensors", "civitai://58390/a%20b.safetensors"),
        ("civitai://model/4384", "civitai://model/4384"),
        ("civitai:827184@2514310", "civitai://2514310"),
        ("urn:air:sdxl:checkpoint:civitai:827184@2514310", "civitai://2514310"),
        ("urn:air:sdxl:lora:civitai:1@2+3.safetensors", "civitai://2+3"),
        ("air:civitai:827184", "civitai://model/827184"),
        ("sdxl:lora:civitai:1@2", "civitai://2"),
        ("https://civitai.com/models/827184?modelVersionId=2514310", "civitai://2514310"),
        ("https://civitai.com/models/827184/wai-illustrious", "civitai://model/827184"),
        ("civitai.com/models/827184", "civitai://model/827184"),
        ("https://civitai.green/models/5", "civitai://model/5"),
        ("https://civitai.red/model-versions/5", "civitai://5"),
        ("https://civitai.com/api/download/models/251", "civitai://251"),
        ("https://civitai.com/api/download/models/251?fileId=7", "civitai://251+7"),
        (
            "https://civitai.com/api/download/models/251?type=Model&format=SafeTensor&fp=fp16",
            "civitai://251?format=SafeTensor&fp=fp16&type=Model",
        ),
        ("civitai://5?endpoint=https://C.example/", "civitai://5?endpoint=https://c.example"),
        ("civitai://5?endpoint=https://www.civitai.com", "civitai://5"),
    ],
)
def test_a_version_or_a_model_is_named_in_many_ways_and_written_in_one(text: str, canonical: str):
    ref = parse(text, [source()])

    assert str(ref) == canonical
    assert parse(canonical, [source()]) == ref


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("civitai://abc", "names no version or model"),
        ("civitai://0", "names no version or model"),
        ("civitai://1/../x", "its path is"),
        ("civitai://1?revision=2", "has an option 'revision'"),
        ("civitai://1?endpoint=https://host/path", "is no address of a CivitAI"),
        ("civitai://model/1?type=VAE", "chosen by a query"),
        ("urn:air:flux1:checkpoint:huggingface:org/name", "a model of huggingface"),
        ("urn:air:sdxl:lora:civitai:1+3", "names no version"),
        ("https://civitai.com/models/1?modelVersionId=x", "no number for its version"),
        ("https://civitai.com/api/download/models/2?token=abc", "is a credential"),
    ],
)
def test_what_names_nothing_is_refused_with_the_forms_that_do(text: str, says: str):
    with pytest.raises(RefError, match=says) as caught:
        parse(text, [source()])

    assert caught.value.hint


def test_other_pages_of_civitai_are_nobodys_models():
    assert source().recognise("https://civitai.com/images/4") is None
    assert source().recognise("https://civitai.com.example/models/4") is None


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "names no version"),
        ({"version_id": "1", "model_id": "2"}, "names a version and a model"),
        ({"model_id": "2", "file_id": "3"}, "files are of a version"),
        ({"version_id": "v1"}, "version_id = 'v1', a number was expected"),
        ({"version_id": "1", "file_id": "-3"}, "file_id = '-3'"),
    ],
)
def test_keys_that_name_no_version_are_refused_by_name(keys: dict[str, object], says: str):
    with pytest.raises(UsageError, match=says):
        source().ref_of(keys)


def test_a_version_becomes_its_primary_file_with_everything_that_is_told_of_it(double: Civitai):
    snapshot = resolved(double, "civitai://127062")
    (file,) = snapshot.files

    assert str(snapshot.ref) == f"civitai://127062?endpoint={double.url}"
    assert snapshot.revision == "127062+91869"
    assert (file.path, file.size) == ("VSK.safetensors", len(V2))
    assert [digest.algorithm for digest in file.digests] == ["sha256"]
    assert dict(snapshot.table) == {
        "endpoint": double.url,
        "model-id": "11821",
        "version-id": "127062",
        "file-id": "91869",
    }
    assert (snapshot.category, snapshot.gated) == ("lora", "no")
    assert snapshot.page == f"{double.url}/models/11821?modelVersionId=127062"
    assert snapshot.licence.spdx is None
    assert str(snapshot.licence.raw).startswith("CivitAI: commercial use: Image, RentCivit; no cr")
    assert snapshot.notes[0] == "VSK-94, version v2.0: LORA for SD 1.5"
    assert "civitai://127062+91871 (VSK.vae.safetensors)" in snapshot.notes[-1]


@pytest.mark.parametrize("text", ["civitai://127062", "civitai://model/11821", "civitai://5"])
def test_asking_twice_gives_the_same_snapshot(double: Civitai, text: str):
    assert resolved(double, text) == resolved(double, text)


def test_a_model_is_its_newest_version_and_it_is_said_which_that_is(double: Civitai):
    snapshot = resolved(double, "civitai://model/11821")

    assert snapshot.ref.name == "127062"
    assert snapshot.notes[0] == "the newest version of model 11821 is v2.0, civitai://127062"


def test_the_number_of_a_model_in_place_of_a_versions_is_told_apart(double: Civitai):
    with pytest.raises(ModelNotFound, match=r"11821 is the number of a model .*VSK-94") as caught:
        resolved(double, "civitai://11821")

    assert "civitai://127062 (v2.0), civitai://13966 (v1.0)" in caught.value.hint
    assert "civitai://model/11821" in caught.value.hint


def test_a_number_of_nothing_is_not_found_whatever_it_was_meant_to_be(double: Civitai):
    with pytest.raises(ModelNotFound, match="no version 999, and no model"):
        resolved(double, "civitai://999")
    with pytest.raises(ModelNotFound, match="no model 127062") as caught:
        resolved(double, "civitai://model/127062")
    assert "civitai://127062" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "number", "category"),
    [
        ("civitai://127062+91870", "91870", "lora"),
        ("civitai://127062+91871", "91871", "vae"),
        ("civitai://127062/VSK.vae.safetensors", "91871", "vae"),
        ("civitai://127062?type=VAE", "91871", "vae"),
        ("civitai://127062?type=Model&format=SafeTensor&size=full&fp=fp32", "91870", "lora"),
        ("civitai://127062?format=safetensor", "91869", "lora"),
    ],
)
def test_another_file_is_chosen_by_number_name_or_query(
    double: Civitai, text: str, number: str, category: str
):
    snapshot = resolved(double, text)

    assert (snapshot.table["file-id"], snapshot.category) == (number, category)


@pytest.mark.parametrize(
    "text", ["civitai://127062+1", "civitai://127062/x", "civitai://127062?fp=nf4"]
)
def test_a_file_that_is_not_there_names_those_that_are(double: Civitai, text: str):
    with pytest.raises(FileNotFound, match="has no such file") as caught:
        resolved(double, text)

    assert "civitai://127062+91869 (VSK.safetensors)" in caught.value.hint


def test_a_version_without_a_primary_file_is_its_first_model(double: Civitai):
    files = [
        File(1, "config.yaml", b"a: 1", type="Config", primary=False),
        File(2, "m.safetensors", V1, primary=False),
    ]
    double.models.append(Model(90, "Ninety", "Checkpoint", [Version(900, "x", files)]))

    assert resolved(double, "civitai://900").files[0].path == "m.safetensors"


@pytest.mark.parametrize(
    ("hashes", "algorithms", "note"),
    [
        (("SHA256", "BLAKE3", "AutoV2"), ["sha256"], None),
        (("BLAKE3", "AutoV2"), ["blake3"], None),
        (("AutoV2", "AutoV1", "CRC32"), ["autov2"], "only how the sha256 of m.safetensors begins"),
        (("AutoV1",), [], "tells no digest of m.safetensors"),
    ],
)
def test_the_strongest_digest_that_is_told_is_the_one_to_be_checked(
    double: Civitai, hashes: tuple[str, ...], algorithms: list[str], note: str | None
):
    snapshot = with_file(double, File(1, "m.safetensors", V1, hashes=hashes))

    assert [digest.algorithm for digest in snapshot.files[0].digests] == algorithms
    assert [one for one in snapshot.notes if note and note in one] or note is None


@pytest.mark.parametrize(
    ("kib", "size"),
    [(6775429.966796875, 6938040286), (4, 4096), (6775430.35, None), ("4", None), (None, None)],
)
def test_a_size_is_the_exact_fraction_or_none(kib: object, size: int | None):
    file = {"id": 1, "name": "a", "sizeKB": kib}
    version = read_version({"id": 1, "modelId": 2, "files": [file]}, "here")

    assert version.files[0].size == size


@pytest.mark.parametrize("result", ["Pending", "Error"])
def test_a_file_that_was_not_scanned_is_warned_of(double: Civitai, result: str):
    snapshot = with_file(double, File(1, "m.safetensors", V1, virus=result))

    assert f"m.safetensors was not scanned for viruses ({result})" in snapshot.notes
    assert snapshot.files[0].danger == ""


def test_a_pickle_is_warned_of_and_a_file_that_is_none_named(double: Civitai):
    files = [
        File(1, "m.ckpt", V1, format="PickleTensor"),
        File(2, "m.safetensors", V1, primary=False),
    ]
    double.models.append(Model(90, "Ninety", "Checkpoint", [Version(900, "x", files)]))

    assert (
        "m.ckpt is a pickle, which can run code when it is loaded: civitai://900+2 "
        "(m.safetensors) cannot" in resolved(double, "civitai://900").notes
    )


@pytest.mark.parametrize("scan", ["virus", "pickle"])
def test_a_file_that_was_found_harmful_is_shown_and_never_located(double: Civitai, scan: str):
    file = File(1, "m.ckpt", V1, **{scan: "Danger"})  # type: ignore[arg-type]
    snapshot = with_file(double, file)

    assert snapshot.files[0].danger.startswith(f"{scan} scan: Danger")
    with pytest.raises(PolicyError, match="Danger"):
        source(double.url).locate(snapshot, snapshot.files[0])


def test_what_is_archived_or_kept_by_its_creator_is_said_before_anything_moves(double: Civitai):
    with pytest.raises(ModelDisabled, match="archived"):
        resolved(double, "civitai://model/7")
    double.models[0].mode = "Archived"
    with pytest.raises(ModelDisabled, match="archived"):
        resolved(double, "civitai://127062")
    with pytest.raises(Gated, match="has disabled its downloads"):
        with_file(double, File(1, "m.safetensors", V1), usage="Generation")


def test_early_access_is_a_gate_that_is_told(double: Civitai):
    sold = resolved(double, "civitai://5")
    ends = "2099-10-11T14:30:00.000Z"
    timed = with_file(double, File(1, "m.safetensors", V1), ends=ends)
    over = Version(901, "two", [File(2, "n.safetensors", V1)], ends="2020-10-11T14:30:00.000Z")
    double.models[-1].versions.append(over)

    assert (sold.gated, timed.gated) == ("manual", "manual")
    assert "it is in early access until 2099-10-11 14:30 UTC" in timed.notes
    assert resolved(double, "civitai://901").gated == "no"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.safetensors",
        "/etc/passwd",
        "a\\b.safetensors",
        "C:x",
        "nul",
        ".modelbay",
        "a\u202eb",
    ],
)
def test_a_name_that_must_not_reach_a_disk_is_refused(double: Civitai, name: str):
    with pytest.raises(UnsafeName):
        with_file(double, File(1, name, V1))


@pytest.mark.parametrize(
    ("model", "file", "category"),
    [
        ("Checkpoint", "Model", "checkpoints"),
        ("Checkpoint", "Pruned Model", "checkpoints"),
        ("Checkpoint", "Diffusion Model", "diffusion_models"),
        ("Checkpoint", "Config", "checkpoints"),
        ("Checkpoint", "VAE", "vae"),
        ("UNet", "Model", "diffusion_models"),
        ("LoCon", "Model", "lora"),
        ("DoRA", "Model", "lora"),
        ("TextualInversion", "Negative", "embeddings"),
        ("Upscaler", "Model", "esrgan"),
        ("CLIP", "Model", "text_encoder"),
        ("CLIPVision", "Model", "clip_vision"),
        ("MotionModule", "Model", "motion"),
        ("LORA", "Training Data", None),
        ("Workflows", "Archive", None),
        ("Poses", "Model", None),
    ],
)
def test_a_type_is_a_category_where_an_application_has_a_folder_for_it(
    model: str, file: str, category: str | None
):
    assert category_of(model, file) == category


def locked(double: Civitai, text: str, **changed: str) -> str:
    made = source(double.url)
    asked = parse(text, [made])
    return str(made.ref_in({**made.resolve(asked).table, **changed}, asked)).partition("?")[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("civitai://127062", "civitai://127062"),
        ("civitai://127062+91871", "civitai://127062+91871"),
        ("civitai://127062/VSK.safetensors", "civitai://127062/VSK.safetensors"),
        ("civitai://model/11821", "civitai://127062"),
        ("civitai://127062?type=VAE", "civitai://127062+91871"),
    ],
)
def test_a_lock_names_the_version_whose_file_it_locates(double: Civitai, text: str, found: str):
    assert locked(double, text) == found


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("civitai://127062", {"version-id": "13966"}),
        ("civitai://127062+91871", {"file-id": "91870"}),
        ("civitai://model/11821", {"model-id": "2"}),
        ("civitai://127062", {"version-id": "127062/../1"}),
        ("civitai://127062", {"file-id": ""}),
    ],
)
def test_a_lock_that_was_changed_by_hand_locates_nothing(
    double: Civitai, text: str, changed: dict[str, str]
):
    with pytest.raises(FormatError):
        locked(double, text, **changed)


def found(double: Civitai, text: str = "", **asked: object) -> list[Hit]:
    return list(source(double.url).search(Query(text, **asked)))  # type: ignore[arg-type]


def titles(double: Civitai, text: str = "", **asked: object) -> list[str]:
    return [hit.title for hit in found(double, text, **asked)]


def test_a_search_finds_models_by_their_newest_version(double: Civitai):
    (hit,) = found(double, "vsk")

    assert str(hit.ref) == f"civitai://127062?endpoint={double.url}"
    assert (hit.title, hit.author, hit.downloads, hit.likes) == ("VSK-94", "artist", 10, 3)
    assert (hit.task, hit.updated, hit.gated) == ("LORA", "2025-05-19T03:20:00.000Z", "no")
    assert hit.tags == ("SD 1.5", "anime", "weapon")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"filters": ("type:LORA",)}, ["VSK-94"]),
        ({"task": "lora"}, ["VSK-94"]),
        ({"task": "loras"}, ["VSK-94", "Second LORA"]),
        ({"filters": ("type:checkpoint",)}, ["Big"]),
        ({"filters": ("type:vae", "type:checkpoint")}, ["Big", "Early", "Old"]),
        ({"filters": ("base:SD 1.5",)}, ["VSK-94"]),
        ({"filters": ("anime",)}, ["VSK-94"]),
        ({"filters": ("anime", "weapon")}, ["VSK-94"]),
        ({"filters": ("anime", "robot")}, []),
        ({"author": "seller"}, ["Early"]),
        ({"gated": True}, ["Early"]),
        ({"filters": ("nsfw", "type:LORA")}, ["VSK-94", "Secret"]),
    ],
)
def test_filters_are_types_base_models_tags_and_what_is_not_for_everybody(
    double: Civitai, asked: dict[str, Any], names: list[str]
):
    assert titles(double, **asked) == names


def test_order_and_period_are_asked_for_in_civitais_words(double: Civitai):
    titles(double, "x", sort="downloads", filters=("period:week", "checkpoint:merge"), limit=7)

    assert double.paths() == [
        "/api/v1/models?query=x&period=Week&checkpointType=Merge&sort=Most+Downloaded&limit=7"
    ]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"sort": "beauty"}, "knows no order 'beauty'"),
        ({"filters": ("period:decade",)}, "knows no period 'decade'"),
        ({"task": "Chekpoint"}, "no type of models called 'Chekpoint'"),
    ],
)
def test_words_that_civitai_does_not_know_are_refused_before_it_is_asked(
    double: Civitai, asked: dict[str, Any], says: str
):
    with pytest.raises(UsageError, match=says) as caught:
        titles(double, **asked)

    assert caught.value.hint
    assert not double.api


@pytest.mark.parametrize("paging", ["cursor", "number", "address", "page"])
def test_every_way_of_naming_the_next_page_leads_to_it(double: Civitai, paging: str):
    double.paging = paging
    double.models[:] = [Model(n, f"m{n}", "LORA", []) for n in range(1, 251)]

    assert titles(double, limit=230) == [f"m{n}" for n in range(1, 231)]
    assert len(double.api) == 3
    assert all(urlsplit(path).path == "/api/v1/models" for path in double.paths())


def test_no_page_is_asked_for_that_is_always_refused(double: Civitai):
    double.paging = "page"
    double.models[:] = [Model(n, f"m{n}", "LORA", []) for n in range(1, 1201)]

    assert len(titles(double, limit=1150)) == 1000
    assert len(double.api) == 10


def test_pages_that_go_on_without_rows_come_to_an_end():
    page = b'{"items": null, "metadata": {"nextCursor": %d}}'
    asked = iter(range(1000))
    with Scripted({"/api/v1/models": lambda _: Reply(200, page % next(asked))}) as server:
        assert not list(source(server.url).search(Query()))

    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("reply", "error", "says"),
    [
        (Reply(429, b"{}"), RateLimited, "limits how often"),
        (Reply(503), ServerTrouble, "503"),
        (Reply(200, b"<html>"), ServerTrouble, "not JSON"),
        (Reply(200, b"[]"), ServerTrouble, "holds no table"),
        (Reply(200, b'{"id": 1}'), ServerTrouble, "no number under 'modelId'"),
        (Reply(200, b'{"id": true, "modelId": 1}'), ServerTrouble, "no number under 'id'"),
        (Reply(500, b'{"error": "Oh\\u001b no"}'), ServerTrouble, "500"),
        (Reply(400, b'{"error": {"name": "ZodError"}}'), ServerTrouble, "answered 400"),
        (
            Reply(403, b"<html>Attention Required!", {"Content-Type": "text/html"}),
            ServerTrouble,
            "a guard in front",
        ),
    ],
)
def test_trouble_of_the_service_is_told_as_what_it_is(
    reply: Reply, error: type[Exception], says: str
):
    ref = parse("civitai://1", [source()])
    with Scripted({"/api/v1/model-versions/1": reply}) as server, pytest.raises(error, match=says):
        source(server.url).resolve(ref)


def test_the_service_tells_whose_a_key_is(double: Civitai):
    environ = {"CIVITAI_TOKEN": "a-key", "MODELBAY_CIVITAI_ENDPOINT": double.url}
    good = Credentials(environ).find("civitai", double.url)
    bad = Credentials({**environ, "CIVITAI_TOKEN": "nobodys"}).find("civitai", double.url)
    assert good is not None
    assert bad is not None
    account = source(double.url).account(double.url, good)

    assert account is not None
    assert account.name == "me"
    with pytest.raises(CredentialRefused, match="does not know the token from CIVITAI_TOKEN"):
        source(double.url).account(double.url, bad)


def test_the_token_of_civitai_is_for_its_own_endpoint_alone():
    environ = {"CIVITAI_TOKEN": "a-key"}

    assert Credentials(environ).find("civitai", "https://civitai.com") is not None
    assert Credentials(environ).find("civitai", "https://civitai.com.example") is None
    assert Credentials(environ).find("civitai", "http://civitai.com") is None


def test_where_the_key_of_an_entry_goes_is_said_of_the_public_service_too():
    session = Session(Settings(), {"HOME": "/nowhere"})
    snapshot = Snapshot(parse("civitai://5", [source()]), "5+6", ())

    (note,) = noted(session, snapshot, {"token_env": "TEAM_KEY"}).notes
    session.close()
    assert note == "sends the credential in TEAM_KEY to https://civitai.com and to no other host"


def test_a_short_digest_is_checked_and_never_names_content():
    whole = Digest.sha256("416daecfbef167dc59ffce19bc79987ba0e8b0de8e79f79ed215c196d893479d")
    short = Digest.parse("autov2:416DAECFBE")

    assert whole.hex.startswith(short.hex)
    with pytest.raises(FormatError):
        Digest.parse("autov2:416DAECFBE00")


@recorded
def test_the_recorded_version_is_read_whole():
    body = json.loads((RECORDED / "model-versions-1805971.json").read_text())
    version = read_version(body, "the fixture")
    (file,) = version.files

    assert (version.model_name, version.type, version.base_model, version.usage) == (
        "Hyphoria [Illu & NAI]", "Checkpoint", "Illustrious", "Download",
    )  # fmt: skip
    assert (file.size, file.primary, file.virus_scan) == (6938040286, True, "Success")
    assert str(file.digest).startswith("sha256:416daecfbef167dc")
    assert str(parse(body["air"], [source()])) == "civitai://1805971"


@recorded
def test_the_recorded_page_is_read_whole():
    body = json.loads((RECORDED / "models-page-query.json").read_text())
    rows, metadata = read_page(body, "the fixture")
    (model,) = [read_model(row, "the fixture") for row in rows]

    assert model.terms.commercial == ("Image", "RentCivit", "Rent", "Sell")
    assert [(v.id, v.model_id, v.type) for v in model.versions] == [
        (127062, 11821, "LORA"),
        (13966, 11821, "LORA"),
    ]
    assert {file.name for v in model.versions for file in v.files} == {"VSK.safetensors"}
    assert [file.size for v in model.versions for file in v.files] == [75662024, 151074551]
    assert next_page([("limit", "100")], metadata) is None


@recorded
def test_every_recorded_way_of_paging_is_understood():
    pages = json.loads((RECORDED / "metadata-variants.json").read_text())
    asked = [("query", "neon"), ("limit", "50")]
    following = [next_page(asked, read_page(page, "the fixture")[1]) for page in pages]

    assert following == [
        None,
        [*asked, ("cursor", "3|99")],
        [*asked, ("cursor", "12345")],
        None,
        [*asked, ("page", "2")],
        [*asked, ("page", "2")],
    ]


@recorded
def test_every_recorded_refusal_has_its_kind():
    rows = json.loads((RECORDED / "errors.json").read_text())
    kinds = []
    for row in rows:
        body = row.get("body", "")
        text = body if isinstance(body, str) else json.dumps(body)
        refusal = refusal_of(row["status"], "", text)
        away = turned_away(row["url"]) if "login" in row.get("url", "") else None
        kinds.append((row["status"], away or refusal.kind, refusal.deadline))

    assert kinds == [
        (401, "login", None),
        (403, "early", "2026-10-11T14:30:00.000Z"),
        (451, "region", None),
        (404, "missing", None),
        (403, "login", None),
        (403, "no-access", None),
        (400, "store", None),
        (401, "login", None),
        (200, "other", None),
    ]


@recorded
def test_no_recorded_address_of_the_store_is_taken_for_a_page_or_shown_whole():
    head = (RECORDED / "download-307.2024-01.headers").read_text()
    addresses = [line.partition(": ")[2] for line in head.splitlines() if "location:" in line]
    text = (RECORDED / "storage-urls.txt").read_text()
    addresses += [line for line in text.splitlines() if line.startswith("https://")]

    assert len(addresses) == 5
    for address in addresses:
        assert turned_away(address) is None
        assert "X-Amz-Credential=REDACTED" not in shown_url(address)


@recorded
def test_the_recorded_side_car_of_another_manager_names_versions_as_we_do():
    schema = json.loads((RECORDED / "lora-manager-metadata.schema.json").read_text())
    kept = schema["definitions"]["civitaiObject"]["properties"]

    assert kept["id"]["description"] == "Version ID from Civitai"
    assert source().keys_of(parse("civitai://5", [source()])) == {"version_id": "5"}
