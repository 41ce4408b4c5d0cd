"""The Hub's source against the project's own Hub, and against scripted oddities."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FileNotFound,
    FormatError,
    Gated,
    ModelDisabled,
    ModelNotFound,
    RateLimited,
    RevisionNotFound,
    ServerTrouble,
    UnsafeName,
    UsageError,
)
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.location import Http
from modelbay.refs import parse
from modelbay.serve import Account, Facts, Hub, MemoryShelf
from modelbay.snapshot import Query, Snapshot
from modelbay.sources.base import Means, Source
from modelbay.sources.huggingface import HuggingFace
from modelbay.text import Secret
from tests.scripted import Reply, Scripted

WEIGHTS = b"\x80\x00\x00\x00\x00\x00\x00\x00" + b" " * 200
CONFIG = b'{"model_type": "bert"}'
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "onnx/mod\xe8le 1.onnx": b"onnx"}
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"
GOOD, POOR = "hf_good", "hf_poor"
CLIENT = Client(hosts=Hosts(Patience(backoff=0.01, tries=2)))


@pytest.fixture(scope="module", autouse=True)
def _closed_client() -> Iterator[None]:
    yield
    CLIENT.close()


def shelf() -> MemoryShelf:
    made = MemoryShelf()
    facts = Facts(licence="apache-2.0", pipeline_tag="fill-mask", downloads=7, likes=3)
    commit = made.add("org/open", FILES, facts=facts)
    made.tag("org/open", "v1", commit)
    made.add("org/open", {"config.json": b"{}", "x/y.json": b"[]"}, branch="feature/x")
    made.pull("org/open", 1, commit)
    made.add("org/gated", FILES, facts=Facts(licence="llama3", gated="manual"))
    made.add("org/private", FILES, facts=Facts(private=True))
    made.add("org/off", FILES, facts=Facts(disabled=True))
    made.add(
        "org/other",
        FILES,
        facts=Facts(licence="other", card={"license_name": "flux", "license_link": "LICENSE"}),
    )
    made.add("org/bare", FILES)
    made.rename("gpt2", "org/open")
    return made


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    tokens = {Secret(GOOD): Account("good", frozenset({"*"})), Secret(POOR): Account("poor")}
    served = Hub(shelf(), tokens=tokens, page=2)
    yield served
    served.close()


def source(endpoint: str, token: str | None = None) -> HuggingFace:
    environ = {"HF_ENDPOINT": endpoint} | ({"HF_TOKEN": token} if token else {})
    return HuggingFace(Means(CLIENT, Credentials(environ), endpoint))


def resolved(text: str, endpoint: str, token: str | None = None) -> Snapshot:
    made = source(endpoint, token)
    return made.resolve(parse(text, [made]))


def test_it_is_a_source(hub):
    made: Source = source(hub.endpoint)

    assert made.name == "huggingface"


def test_a_model_becomes_a_snapshot_with_what_its_server_claims(hub):
    snapshot = resolved("org/open", hub.endpoint)

    weights = next(file for file in snapshot.files if file.path == "model.safetensors")
    config = next(file for file in snapshot.files if file.path == "config.json")
    assert sorted(file.path for file in snapshot.files) == sorted(FILES)
    assert snapshot.size == sum(map(len, FILES.values()))
    assert (weights.lfs, weights.sha256) == (True, weights.digests[0])
    assert weights.digests[0].hex == hashlib.sha256(WEIGHTS).hexdigest()
    assert weights.extra["pointer_size"].isdigit()
    assert len(weights.extra["blob_id"]) == 40
    git = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    assert [str(digest) for digest in config.digests] == [f"git-sha1:{git}"]
    assert not any(digest.observed for file in snapshot.files for digest in file.digests)


def test_a_snapshot_says_where_it_came_from_and_under_which_licence(hub):
    snapshot = resolved("org/open", hub.endpoint)

    assert snapshot.table == {
        "endpoint": hub.endpoint,
        "repo": "org/open",
        "commit": snapshot.revision,
    }
    assert (snapshot.licence.spdx, snapshot.licence.raw) == ("Apache-2.0", "apache-2.0")
    assert snapshot.page == f"{hub.endpoint}/org/open"
    assert str(snapshot.ref) == f"hf://org/open?endpoint={hub.endpoint}"
    assert (snapshot.gated, snapshot.notes, snapshot.fresh) == ("no", (), True)


def test_a_long_list_is_read_page_by_page(hub):
    before = len(hub.log)

    resolved("org/open", hub.endpoint)

    assert sum("/tree/" in str(asked) for asked in list(hub.log)[before:]) == 2


@pytest.mark.parametrize("revision", ["main", "v1", "refs%2Fpr%2F1"])
def test_every_name_of_a_commit_leads_to_it(hub, revision):
    commit = resolved("org/open", hub.endpoint).revision

    assert resolved(f"org/open@{revision}", hub.endpoint).revision == commit
    assert resolved(f"org/open@{commit}", hub.endpoint).revision == commit


@pytest.mark.parametrize(
    ("pasted", "revision", "path"),
    [
        ("org/open@feature/x", "feature/x", None),
        ("org/open@feature/x/x/y.json", "feature/x", "x/y.json"),
        ("org/open@refs/pr/1/config.json", "refs/pr/1", "config.json"),
        ("org/open@main/config.json", "main", "config.json"),
    ],
)
def test_a_branch_with_a_slash_may_be_pasted_as_it_is(hub, pasted, revision, path):
    ref = resolved(pasted, hub.endpoint).ref

    assert (ref.revision, ref.path) == (revision, path)


def test_an_old_name_becomes_the_name_the_hub_answers_with(hub):
    snapshot = resolved("gpt2@v1", hub.endpoint)

    assert snapshot.ref.name == snapshot.table["repo"] == "org/open"
    assert "gpt2 is called org/open" in snapshot.notes[0]


def test_a_model_that_is_not_there_may_be_private_and_the_hint_says_so(hub):
    with pytest.raises(ModelNotFound, match="org/opem") as raised:
        resolved("org/opem", hub.endpoint)

    assert "HF_TOKEN" in raised.value.hint


@pytest.mark.parametrize("misspelt", ["orga/open", "org/opeen", "org/opem"])
def test_a_misspelt_model_is_answered_with_the_near_names(hub, misspelt):
    with pytest.raises(ModelNotFound) as raised:
        resolved(misspelt, hub.endpoint)

    assert "org/open" in raised.value.hint


def test_a_private_model_is_hidden_from_strangers_and_shown_to_its_owner(hub):
    with pytest.raises(ModelNotFound, match="or hides it"):
        resolved("org/private", hub.endpoint)

    assert resolved("org/private", hub.endpoint, GOOD).ref.name == "org/private"


def test_a_token_that_is_none_is_refused_and_never_shown(hub):
    with pytest.raises(CredentialRefused, match="HF_TOKEN") as raised:
        resolved("org/open", hub.endpoint, "hf_expired")

    assert "hf_expired" not in str(raised.value) + raised.value.hint


def test_a_revision_that_is_not_there_is_refused_with_the_known_ones(hub):
    with pytest.raises(RevisionNotFound, match="mian") as raised:
        resolved("org/open@mian", hub.endpoint)

    assert "main" in raised.value.hint

    with pytest.raises(RevisionNotFound):
        resolved("org/open@nosuch/x", hub.endpoint)


def test_a_disabled_model_is_said_to_be_disabled(hub):
    with pytest.raises(ModelDisabled, match="org/off"):
        resolved("org/off", hub.endpoint)


def located(text: str, endpoint: str, token: str | None = None) -> Http:
    made = source(endpoint, token)
    snapshot = made.resolve(parse(text, [made]))
    return made.locate(snapshot, snapshot.files[0])


def test_a_gated_model_is_shown_to_anyone(hub):
    assert resolved("org/gated", hub.endpoint).gated == "manual"


def test_a_gated_model_without_token_is_refused_before_its_first_byte(hub):
    with pytest.raises(CredentialMissing) as raised:
        located("org/gated", hub.endpoint)

    assert f"{hub.endpoint}/org/gated" in raised.value.hint
    assert "export HF_TOKEN=" in raised.value.hint


def test_a_gated_model_without_grant_names_the_page_to_ask_on(hub):
    with pytest.raises(Gated) as raised:
        located("org/gated", hub.endpoint, POOR)

    assert f"{hub.endpoint}/org/gated" in raised.value.hint


def test_a_grant_is_asked_for_once_and_not_per_file(hub):
    made = source(hub.endpoint, GOOD)
    snapshot = made.resolve(parse("org/gated", [made]))
    before = len(hub.log)

    places = [made.locate(snapshot, file) for file in snapshot.files]

    assert len(places) == 3
    assert sum("auth-check" in str(asked) for asked in list(hub.log)[before:]) == 1


def test_a_file_is_located_at_its_commit_with_the_token_bound_to_its_host(hub):
    made = source(hub.endpoint, GOOD)
    snapshot = made.resolve(parse("org/open", [made]))
    file = next(file for file in snapshot.files if file.path.endswith(".onnx"))

    place = made.locate(snapshot, file)

    assert (
        place.url
        == f"{hub.endpoint}/org/open/resolve/{snapshot.revision}/onnx/mod%C3%A8le%201.onnx"
    )
    assert place.credential is not None
    assert place.credential.origins == frozenset({hub.endpoint})
    assert GOOD not in repr(place)
    assert CLIENT.ask(place.url, credential=place.credential).body == b"onnx"


def test_a_table_from_a_lock_is_enough_to_locate(hub):
    snapshot = resolved("org/open", hub.endpoint)
    replayed = Snapshot(
        snapshot.ref, snapshot.revision, snapshot.files, snapshot.table, fresh=False
    )

    assert source(hub.endpoint).locate(replayed, replayed.files[0]).url.startswith(hub.endpoint)


@pytest.mark.parametrize("key", ["repo", "commit"])
def test_a_lock_that_names_no_repo_or_commit_is_refused(hub, key):
    snapshot = resolved("org/open", hub.endpoint)
    table = {**snapshot.table, key: "../../etc"}

    with pytest.raises(FormatError):
        source(hub.endpoint).locate(
            Snapshot(snapshot.ref, "x", snapshot.files, table), snapshot.files[0]
        )


@pytest.mark.parametrize(
    ("repo", "spdx", "raw", "link"),
    [("org/gated", None, "llama3", None), ("org/other", None, "flux", "/org/other/blob/main/LICENSE"), ("org/bare", None, None, None)],
)  # fmt: skip
def test_a_licence_is_told_as_far_as_it_is_known(hub, repo, spdx, raw, link):
    licence = resolved(repo, hub.endpoint).licence

    assert (licence.spdx, licence.raw) == (spdx, raw)
    assert licence.link == (hub.endpoint + link if link else None)


def test_a_search_finds_models_and_stops_at_its_limit(hub):
    made = source(hub.endpoint)

    hits = list(made.search(Query("o", limit=3)))

    assert len(hits) == 3
    assert all(str(hit.ref).endswith(f"?endpoint={hub.endpoint}") for hit in hits)
    opened = next(iter(made.search(Query("open"))))
    assert (opened.title, opened.author, opened.licence) == ("org/open", "org", "apache-2.0")
    assert (opened.downloads, opened.likes, opened.task, opened.gated) == (7, 3, "fill-mask", "no")


def test_a_search_asks_for_what_the_hub_can_filter_and_sort():
    with Scripted({"/api/models": Reply(200, b"[]")}) as server:
        query = Query("q", 500, "org", ("gguf", "license:mit"), "fill-mask", True, "updated")
        assert list(source(server.url).search(query)) == []

    target = server.paths()[0]
    for part in ("search=q", "author=org", "filter=gguf", "filter=license%3Amit", "gated=true"):
        assert part in target
    for part in ("pipeline_tag=fill-mask", "sort=lastModified", "limit=100", "expand=gated"):
        assert part in target


def test_an_order_the_hub_does_not_know_is_refused_with_those_it_does():
    with pytest.raises(UsageError) as raised:
        list(source("http://127.0.0.1:9").search(Query(sort="size")))

    assert "downloads" in raised.value.hint


def test_pages_of_a_search_are_asked_for_as_they_are_read():
    row = json.dumps([{"id": "org/a"}, {"id": "org/b"}]).encode()
    with Scripted() as server:
        following = {"Link": f'<{server.url}/api/models?cursor=2>; rel="next"'}
        server.answers = {
            "/api/models": Reply(200, row, following),
            "/api/models?cursor=2": Reply(200, row),
        }
        hits = source(server.url).search(Query(limit=4))
        next(hits)
        after_one = len(server.asked)
        rest = list(hits)

    assert (after_one, len(rest), len(server.asked)) == (1, 3, 2)


def scripted(tree: object, **facts: object) -> dict[str, Reply]:
    told = {"id": "org/m", "sha": COMMIT, "tags": [], **facts}
    return {
        "/api/models/org/m/revision/main": Reply(200, json.dumps(told).encode()),
        f"/api/models/org/m/tree/{COMMIT}": Reply(200, json.dumps(tree).encode()),
    }


@pytest.mark.parametrize(
    "name",
    [
        "../../.ssh/authorized_keys",
        "/etc/passwd",
        "a\\..\\b",
        "C:/x",
        "x\x1b[2J.bin",
        "a\u202ebin.exe",
        "con",
    ],
)
def test_a_hostile_file_name_is_refused_and_shown_cleaned(name):
    with (
        Scripted(scripted([{"type": "file", "path": name, "size": 1}])) as server,
        pytest.raises(UnsafeName) as raised,
    ):
        resolved("org/m", server.url)

    assert str(raised.value).isprintable()


def test_two_names_for_one_file_are_refused():
    rows = [{"path": "Config.json", "size": 1}, {"path": "config.json", "size": 1}]
    with Scripted(scripted(rows)) as server, pytest.raises(UnsafeName):
        resolved("org/m", server.url)


def test_a_name_in_another_normal_form_is_asked_for_as_its_server_spells_it():
    rows = [{"path": "mode\u0300le.bin", "size": 1}]
    with Scripted(scripted(rows)) as server:
        made = source(server.url)
        snapshot = made.resolve(parse("org/m", [made]))

    assert snapshot.files[0].path == "mod\xe8le.bin"
    assert made.locate(snapshot, snapshot.files[0]).url.endswith("/mode%CC%80le.bin")


def test_without_a_tree_the_model_info_gives_names_and_sizes():
    siblings = [
        {
            "rfilename": "m.bin",
            "size": 9,
            "blobId": "a" * 40,
            "lfs": {"sha256": "b" * 64, "size": 9},
        }
    ]
    told = {"id": "org/m", "sha": COMMIT, "tags": [], "siblings": siblings}
    blobs = f"/api/models/org/m/revision/{COMMIT}?blobs=true"
    with Scripted(scripted([])) as server:
        server.answers[f"/api/models/org/m/tree/{COMMIT}"] = Reply(404, b"no route")
        server.answers[blobs] = Reply(200, json.dumps(told).encode())
        snapshot = resolved("org/m", server.url)

    assert [(str(f.path), f.size, str(f.sha256)) for f in snapshot.files] == [
        ("m.bin", 9, "sha256:" + "b" * 64)
    ]
    assert "no file tree" in snapshot.notes[0]


def test_a_disabled_model_answered_with_200_is_told_by_its_field():
    with Scripted(scripted([], disabled=True)) as server, pytest.raises(ModelDisabled):
        resolved("org/m", server.url)


@pytest.mark.parametrize(
    ("facts", "spdx", "raw"),
    [
        ({"cardData": {"license": ["mit", "apache-2.0"]}}, "MIT AND Apache-2.0", "mit, apache-2.0"),
        ({"cardData": {"license": ["mit", "llama3"]}}, None, "mit, llama3"),
        ({"tags": ["license:openrail++"]}, None, "openrail++"),
        ({"cardData": {"license": "other"}}, None, "other"),
        ({"cardData": {"license": 3}, "tags": ["license:mit"]}, "MIT", "mit"),
        ({"cardData": None}, None, None),
    ],
)
def test_a_licence_may_come_in_several_shapes(facts, spdx, raw):
    with Scripted(scripted([], **facts)) as server:
        licence = resolved("org/m", server.url).licence

    assert (licence.spdx, licence.raw) == (spdx, raw)


def test_a_warning_of_the_hub_is_passed_on_once_per_run():
    answers = scripted([])
    warned = {"X-HF-Warning": "unauthenticated; set a HF_TOKEN\x1b[2J"}
    answers = {path: Reply(200, reply.body, warned) for path, reply in answers.items()}
    with Scripted(answers) as server:
        made = source(server.url)
        notes = [made.resolve(parse("org/m", [made])).notes for _ in range(2)]

    assert notes == [("the Hub says: set a HF_TOKEN␛[2J",), ()]


def test_an_endpoint_with_a_path_is_kept_in_front_of_every_address():
    with Scripted() as server:
        server.answers = {
            f"/o/r/hf{path}": reply for path, reply in scripted([{"path": "x", "size": 1}]).items()
        }
        made = source(f"{server.url}/o/r/hf/")
        snapshot = made.resolve(parse("org/m", [made]))

    assert all(path.startswith("/o/r/hf/api/") for path in server.paths())
    assert (
        made.locate(snapshot, snapshot.files[0]).url
        == f"{server.url}/o/r/hf/org/m/resolve/{COMMIT}/x"
    )


def test_a_rate_limit_is_said_without_the_askers_address():
    body = b"We had to rate limit your IP (203.0.113.7)."
    with (
        Scripted({"/api/models/org/m/revision/main": Reply(429, body)}) as server,
        pytest.raises(RateLimited) as raised,
    ):
        resolved("org/m", server.url)

    assert "203.0.113.7" not in str(raised.value) + raised.value.hint


def test_a_login_page_in_place_of_json_is_said():
    page = Reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"})
    with (
        Scripted({"/api/models/org/m/revision/main": page}) as server,
        pytest.raises(ServerTrouble, match="not JSON"),
    ):
        resolved("org/m", server.url)


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (404, {"x-error-code": "EntryNotFound"}, "Entry not found", FileNotFound),
        (404, {"content-type": "text/plain"}, "Not here", FileNotFound),
        (401, {"x-error-code": "GatedRepo"}, "restricted", CredentialMissing),
        (401, {"content-type": "text/plain"}, "Invalid username or password.", ModelNotFound),
        (
            403,
            {"content-type": "application/xml"},
            "<Error><Code>AccessDenied</Code></Error>",
            ServerTrouble,
        ),
        (
            403,
            {"content-type": "text/plain"},
            "Access to this resource is disabled.",
            ModelDisabled,
        ),
    ],
)
def test_a_refused_file_is_explained(hub, status, headers, body, kind):
    place = located("org/open", hub.endpoint)

    assert place.explain is not None
    assert type(place.explain(status, headers, body)) is kind
