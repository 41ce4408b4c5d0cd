"""Every recorded answer of fixtures/hf is read where it lies; odd ones are written here."""

import json
import os
from pathlib import Path

import pytest

from modelbay.errors import RedirectRefused, ServerTrouble
from modelbay.http import Answer, Client
from modelbay.wire.hub import (
    PUBLIC,
    Hub,
    Refusal,
    Repo,
    is_repo_id,
    next_page,
    refusal_of,
)
from modelbay.wire.hub_answers import read_facts, read_found, read_refs, read_row
from tests.scripted import Reply, Scripted

FIXTURES = (
    Path(os.environ.get("MODELBAY_FIXTURES", Path(__file__).parents[2] / "shared/fixtures")) / "hf"
)
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"
SHA = "6a8a825ab2750558bdd20dcced386fd82b7222c7ba58c11d3b611d9c44f1be63"


def recorded(pattern: str) -> list[Path]:
    return sorted(FIXTURES.glob(pattern))


def fixture(name: str) -> Path:
    if not (FIXTURES / name).exists():
        pytest.skip(f"the recorded answer {name} is not here (MODELBAY_FIXTURES)")
    return FIXTURES / name


def answer_in(path: Path) -> Answer:
    """A recorded answer, in either of the two forms they were kept in."""
    told = json.loads(path.read_text())
    status = told["status"]["code"] if isinstance(told["status"], dict) else told["status"]
    headers = {name.lower(): value for name, value in told["headers"].items()}
    body = told["body"] if isinstance(told["body"], str) else json.dumps(told["body"])
    return Answer(status, "https://huggingface.co/api/models/x", body.encode(), headers)


def headers_in(path: Path) -> tuple[int, dict[str, str]]:
    first, *lines = path.read_text().splitlines()
    pairs = [line.partition(":") for line in lines if ":" in line]
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


def refused(
    status: int,
    code: str | None = None,
    said: str | None = None,
    body: bytes = b"",
    kind="text/plain",
):
    headers = {"content-type": kind}
    headers |= {"x-error-code": code} if code else {}
    headers |= {"x-error-message": said} if said else {}
    return refusal_of(Answer(status, PUBLIC, body, headers))


def test_every_recorded_model_info_is_read():
    paths = [
        p
        for p in recorded("api-model-*.json")
        if "not-found" not in p.name and "redirect" not in p.name
    ]
    if not paths:
        pytest.skip("8 recorded model infos are not here (MODELBAY_FIXTURES)")

    told = []
    for path in paths:
        whole = json.loads(path.read_text())
        told.append(read_facts(whole.get("body", whole), path.name))

    print(f"{len(told)} recorded model infos read")
    assert all(facts.sha and facts.tags for facts in told)
    assert {facts.gated for facts in told} == {"no", "auto", "manual"}
    assert [facts.id for facts in told if facts.disabled] == ["ykilcher/gpt-4chan"]


def test_every_recorded_tree_row_is_read():
    paths = recorded("tree-rows-*.json")
    if not paths:
        pytest.skip("2 recorded trees are not here (MODELBAY_FIXTURES)")

    rows = [read_row(row, path.name) for path in paths for row in json.loads(path.read_text())]

    assert len(rows) == 5
    assert all(row.oid and row.size for row in rows)
    assert sum(row.sha256 is not None and row.xet is not None for row in rows) == 4
    assert {row.pointer_size for row in rows if row.sha256} == {134, 135}


def test_every_recorded_search_row_is_read():
    paths = recorded("api-models-list-*.json")
    if not paths:
        pytest.skip("2 recorded searches are not here (MODELBAY_FIXTURES)")

    rows = [read_found(row, path.name) for path in paths for row in json.loads(path.read_text())]

    assert len(rows) == 4
    assert all(is_repo_id(row.id) and row.likes and row.downloads for row in rows)
    assert [row.gated for row in rows] == [None, None, "no", "auto"]


def test_the_recorded_refs_are_read():
    told = json.loads(fixture("api-observations.2026-10-02.json").read_text())

    assert read_refs(told["refs_gpt2"], "refs") == ("main",)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("api-commits-bad-revision.json", "revision"),
        ("api-commits-gated.json", "gated"),
        ("api-model-not-found.json", "missing-or-private"),
    ],
)
def test_a_recorded_refusal_of_the_api_is_told_apart(name, kind):
    refusal = refusal_of(answer_in(fixture(name)))

    assert refusal.kind == kind
    assert refusal.said


@pytest.mark.parametrize(
    ("name", "kind"),
    [("resolve-401-gatedrepo", "gated"), ("resolve-404-entrynotfound", "entry")],
)
def test_a_recorded_refusal_of_a_file_is_plain_text_and_told_apart(name, kind):
    status, headers = headers_in(fixture(f"{name}.headers"))
    body = fixture(f"{name}.body.txt").read_bytes()

    refusal = refusal_of(Answer(status, PUBLIC, body, headers))
    bare = refusal_of(Answer(status, PUBLIC, body, {"content-type": headers["content-type"]}))

    assert refusal.kind == kind
    assert refusal.said == bare.said == body.decode().strip()


def test_nothing_of_a_recorded_429_is_repeated():
    body = fixture("429-bodies.txt").read_bytes()

    for kind in ("text/plain", "application/json", "text/html"):
        assert (
            refused(429, None, "We had to rate limit your IP (203.0.113.7)", body, kind).said == ""
        )


def test_the_recorded_files_of_this_folder_are_all_known():
    known = ("api-", "tree-rows-", "resolve-", "429-", "upload-", "cas.", "cdn-", "page-")
    if not FIXTURES.exists():
        pytest.skip("37 recorded answers are not here (MODELBAY_FIXTURES)")

    assert [path.name for path in recorded("*") if not path.name.startswith(known)] == []


@pytest.mark.parametrize(
    ("status", "code", "said", "kind"),
    [
        (401, "RepoNotFound", "Invalid username or password.", "missing-or-private"),
        (401, None, "Invalid username or password.", "missing-or-private"),
        (404, "RepoNotFound", "Repository not found", "missing"),
        (401, None, "Invalid credentials in Authorization header", "token"),
        (401, None, None, "token"),
        (401, "GatedRepo", "Access to model x is restricted.", "gated"),
        (403, "GatedRepo", "you are not in the authorized list", "gated"),
        (404, "RevisionNotFound", "Invalid rev id: x", "revision"),
        (404, None, "Invalid rev id: x", "revision"),
        (404, "EntryNotFound", "Entry not found", "entry"),
        (404, None, None, "missing"),
        (410, None, None, "missing"),
        (403, None, "Access to this resource is disabled.", "disabled"),
        (403, None, "This token lacks read access", "forbidden"),
        (400, None, "Bad request", "other"),
        (451, None, None, "other"),
    ],
)
def test_a_refusal_is_told_by_its_code_and_else_by_status_and_text(status, code, said, kind):
    assert refused(status, code, said).kind == kind


def test_an_html_page_is_no_sentence_of_the_hub():
    assert refused(403, body=b"<html>no</html>", kind="text/html").said == ""


@pytest.mark.parametrize(
    ("link", "endpoint", "expected"),
    [
        ('<https://huggingface.co/api/models?cursor=x>; rel="next"', PUBLIC, f"{PUBLIC}/api/models?cursor=x"),
        ("<https://huggingface.co/api/models?cursor=x>; rel=next", "https://m.example/p", "https://m.example/p/api/models?cursor=x"),
        ('</p/api/models?a,b>; rel="next"', "https://m.example/p", "https://m.example/p/api/models?a,b"),
        ('<https://a/api/1>; rel="prev", <https://a/api/2>; title="x, y"; rel="next"', "https://a", "https://a/api/2"),
        ('<https://a/api/1>; rel="last"', "https://a", None),
        ("", "https://a", None),
    ],
)  # fmt: skip
def test_the_next_page_is_asked_of_the_endpoint(link, endpoint, expected):
    answer = Answer(200, f"{endpoint}/api/models", b"[]", {"link": link})

    assert next_page(answer, endpoint) == expected


def test_a_next_page_that_is_none_of_the_api_is_refused():
    answer = Answer(200, PUBLIC, b"[]", {"link": '<https://evil.example/x>; rel="next"'})

    with pytest.raises(ServerTrouble, match="none of its own"):
        next_page(answer, PUBLIC)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"type": "file", "size": 3}, "rfilename"),
        ({"path": "x", "size": -1}, "size"),
        ({"path": "x", "size": "3"}, "size"),
        ({"path": "x", "size": True}, "size"),
        ({"path": "x", "lfs": {"size": 3}}, "sha256"),
        ({"path": "x", "lfs": {"oid": "abc", "size": 3}}, "sha256"),
        (["x"], "table"),
        ({"path": 3}, "path"),
    ],
)
def test_a_row_that_lacks_a_fact_names_its_key(row, named):
    with pytest.raises(ServerTrouble, match=named):
        read_row(row, "the file list")


@pytest.mark.parametrize(
    ("body", "named"),
    [({"id": "a/b"}, "sha"), ({"sha": COMMIT}, "modelId"), ({"id": "a/b", "sha": "../../x"}, "commit"), ([], "table")],
)  # fmt: skip
def test_a_model_info_that_lacks_a_fact_names_its_key(body, named):
    with pytest.raises(ServerTrouble, match=named):
        read_facts(body, "the model info")


def test_a_sibling_names_the_same_facts_as_a_tree_row():
    sibling = {
        "rfilename": "m.bin",
        "size": 9,
        "blobId": "a" * 40,
        "lfs": {"sha256": SHA, "size": 9, "pointerSize": 130},
    }
    tree = {
        "type": "file",
        "path": "m.bin",
        "size": 9,
        "oid": "a" * 40,
        "lfs": {"oid": SHA, "size": 9, "pointerSize": 130},
    }

    assert read_row(sibling, "x") == read_row(tree, "x")


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("gpt2", True), ("org/name", True), ("Qwen/Qwen3-0.6B", True), ("_org/x_", True), ("a/b/c", False),
        ("org/na--me", False), ("org/..", False), ("-x/y", False), ("x/y.", False), ("x/y.git", False),
        ("x/" + "y" * 97, False), ("", False), ("org/", False), ("org/n@me", False), ("org/näme", False),
    ],
)  # fmt: skip
def test_a_repository_id_follows_the_hubs_rules(text, good):
    assert is_repo_id(text) is good


def test_addresses_quote_revisions_wholly_and_paths_between_slashes():
    repo = Repo("https://m.example/prefix", "org/name", "dataset")

    assert repo.file_url("refs/pr/1", "a b/c#d.bin") == (
        "https://m.example/prefix/datasets/org/name/resolve/refs%2Fpr%2F1/a%20b/c%23d.bin"
    )
    assert repo.api == "https://m.example/prefix/api/datasets/org/name"


def test_renames_are_followed_on_the_same_origin_and_warnings_kept_once():
    warned = {"X-HF-Warning": "unauthenticated; please set a HF_TOKEN"}
    facts = json.dumps({"id": "openai-community/gpt2", "sha": COMMIT, "tags": []}).encode()
    moved = "/api/models/openai-community/gpt2/revision/main"
    with Scripted() as server, Client() as client:
        server.answers = {
            "/api/models/gpt2/revision/main": Reply(307, b"moved", {"Location": moved, **warned}),
            moved: Reply(200, facts, warned),
        }
        hub = Hub(client, server.url)
        found = hub.facts(Repo(server.url, "gpt2"), "main")

    assert found.id == "openai-community/gpt2"
    assert hub.warnings == ["please set a HF_TOKEN"]


def test_an_answer_from_another_host_is_not_taken():
    with Scripted() as away, Scripted() as server, Client() as client:
        server.answers["/api/models/a/b/refs"] = Reply(
            302, headers={"Location": f"{away.url}/login"}
        )
        with pytest.raises(RedirectRefused, match="another host"):
            Hub(client, server.url).refs(Repo(server.url, "a/b"))

    assert away.asked == []


def test_renames_in_a_circle_end_in_a_refusal():
    with Scripted() as server, Client() as client:
        server.answers["/api/models/a/b/refs"] = Reply(
            307, headers={"Location": "/api/models/a/b/refs"}
        )
        with pytest.raises(Refusal):
            Hub(client, server.url).refs(Repo(server.url, "a/b"))

    assert len(server.asked) < 10


def test_a_list_that_repeats_its_page_comes_to_an_end():
    with Scripted() as server, Client() as client:
        again = f'<{server.url}/api/models/a/b/tree/main?recursive=true>; rel="next"'
        server.answers["/api/models/a/b/tree/main"] = Reply(200, b"[]", {"Link": again})
        with pytest.raises(ServerTrouble, match="no end"):
            list(Hub(client, server.url).tree(Repo(server.url, "a/b"), "main"))


def test_folders_of_a_tree_are_no_files():
    rows = [
        {"type": "directory", "oid": "a" * 40, "size": 0, "path": "onnx"},
        {"type": "file", "oid": "b" * 40, "size": 2, "path": "x"},
    ]
    with Scripted() as server, Client() as client:
        server.answers["/api/models/a/b/tree/main"] = Reply(200, json.dumps(rows).encode())
        found = list(Hub(client, server.url).tree(Repo(server.url, "a/b"), "main"))

    assert [row.path for row in found] == ["x"]
