"""The Hub's metadata routes, as the real one was recorded to answer."""

import re

import pytest

from modelbay.serve import Account, Facts, Hub, MemoryShelf
from modelbay.text import Secret
from tests.serve_client import Got, ask, bearer, next_link

GRANTED = "hf_granted"
OUTSIDER = "hf_outsider"
TOKENS = {
    Secret(GRANTED): Account("ada", frozenset({"org/gated", "org/private"})),
    Secret(OUTSIDER): Account("bob"),
}


@pytest.fixture(scope="module")
def shelf():
    shelf = MemoryShelf()
    first = shelf.add("org/Model", {"config.json": "{}"}, title="First")
    shelf.add(
        "org/Model",
        {
            "config.json": '{"a": 1}',
            "model.safetensors": b"weights",
            "sub/deep/a.txt": "a",
            "sub/b c.txt": "b",
        },
        facts=Facts(
            licence="mit",
            pipeline_tag="text-generation",
            library_name="transformers",
            tags=("gguf", "en"),
            downloads=10,
            likes=3,
            trending=0.7000000000000001,
            parameters={"F32": 5, "I64": 2},
        ),
        title="Second",
    )
    shelf.tag("org/Model", "v1", first)
    shelf.pull("org/Model", 1, first)
    shelf.add("org/gated", {"a.txt": "a"}, facts=Facts(gated="auto", trending=5, downloads=1))
    shelf.add("org/private", {"a.txt": "a"}, facts=Facts(private=True))
    shelf.add("org/disabled", {"a.txt": "a"}, facts=Facts(disabled=True, gated="auto"))
    for number in range(5):
        shelf.add(f"many/m{number}", {"a.txt": "a"}, facts=Facts(likes=number))
    shelf.rename("legacy", "org/Model")
    return shelf


@pytest.fixture(scope="module")
def hub(shelf: MemoryShelf):
    with Hub(shelf, tokens=TOKENS) as one:
        yield one


def api(hub: Hub, path: str, token: str | None = None) -> Got:
    return ask(f"{hub.endpoint}/api/{path}", bearer(token) if token else {})


def ids(got: Got) -> list[str]:
    return [row["id"] for row in got.json]


def test_a_row_of_the_list_has_the_recorded_keys_and_no_others(hub: Hub):
    (row,) = api(hub, "models?search=model").json

    assert set(row) == {
        *("_id", "id", "likes", "trendingScore", "private", "downloads", "tags"),
        *("pipeline_tag", "library_name", "createdAt", "modelId"),
    }
    assert row["trendingScore"] == 0.7000000000000001
    assert {"license:mit", "gguf", "text-generation", "region:us"} <= set(row["tags"])


def test_full_adds_what_only_full_has(hub: Hub):
    (row,) = api(hub, "models?search=model&full=true").json

    assert row["author"] == "org"
    assert row["gated"] is False
    assert {"rfilename": "model.safetensors"} in row["siblings"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search=ORG+model", ["org/Model"]),
        ("author=many&sort=likes&limit=2", ["many/m4", "many/m3"]),
        ("filter=gguf&filter=license:mit", ["org/Model"]),
        ("filter=gguf,license:apache-2.0", []),
        ("pipeline_tag=text-generation", ["org/Model"]),
        ("gated=true", ["org/gated", "org/disabled"]),
        ("author=org&sort=downloads", ["org/Model", "org/gated", "org/disabled"]),
        ("author=org", ["org/gated", "org/Model", "org/disabled"]),
    ],
)
def test_the_list_is_narrowed_and_sorted(hub: Hub, query: str, found: list[str]):
    assert ids(api(hub, f"models?{query}")) == found


def test_private_models_are_listed_for_those_who_see_them(hub: Hub):
    assert "org/private" in ids(api(hub, "models", GRANTED))
    assert "org/private" not in ids(api(hub, "models", OUTSIDER))
    assert "org/private" not in ids(api(hub, "models"))


def test_pages_follow_by_link_until_there_is_none(hub: Hub):
    gathered = []
    url: str | None = f"{hub.endpoint}/api/models?author=many&limit=2&sort=likes"
    while url:
        got = ask(url)
        gathered.append(ids(got))
        url = next_link(got)

    assert gathered == [["many/m4", "many/m3"], ["many/m2", "many/m1"], ["many/m0"]]


def test_expand_gives_exactly_what_was_asked(hub: Hub):
    got = api(hub, "models/org/Model?expand[]=sha&expand=safetensors&expand[]=baseModels")

    assert set(got.json) == {"_id", "id", "sha", "safetensors"}
    assert got.json["safetensors"] == {"parameters": {"F32": 5, "I64": 2}, "total": 7}


@pytest.mark.parametrize("path", ["models?expand=nonsense", "models/org/Model?expand[]=_id"])
def test_an_unknown_expand_is_400_and_lists_the_options(hub: Hub, path: str):
    got = api(hub, path)

    assert got.status == 400
    assert '"childrenModelCount"' in got.json["error"]


@pytest.mark.parametrize("query", ["limit=x", "cursor=%21", "sort=luck", "limit=-1"])
def test_a_query_that_cannot_be_read_is_400(hub: Hub, query: str):
    assert api(hub, f"models?{query}").status == 400


def test_a_model_is_told_with_sizes_where_blobs_are_asked(hub: Hub):
    plain = api(hub, "models/org/Model").json
    blobs = api(hub, "models/org/Model?blobs=true").json

    assert plain["siblings"][0] == {"rfilename": "config.json"}
    assert plain["cardData"] == {"license": "mit"}
    assert plain["modelId"] == plain["id"] == "org/Model"
    weights = blobs["siblings"][1]
    assert weights["size"] == weights["lfs"]["size"] == 7
    assert len(weights["blobId"]) == 40
    assert len(weights["lfs"]["sha256"]) == 64
    assert "lfs" not in blobs["siblings"][0]


def test_a_revision_is_told_by_branch_tag_pull_request_and_commit(hub: Hub):
    refs = api(hub, "models/org/Model/refs?include_prs=1").json
    first = refs["tags"][0]["targetCommit"]

    told = {
        name: api(hub, f"models/org/Model/revision/{name}").json["sha"]
        for name in ("v1", "refs%2Fpr%2F1", first, "main")
    }

    assert told.pop("main") == refs["branches"][0]["targetCommit"]
    assert set(told.values()) == {first}
    assert refs["branches"][0]["ref"] == "refs/heads/main"
    assert refs["pullRequests"][0]["name"] == "refs/pr/1"
    assert "pullRequests" not in api(hub, "models/org/Model/refs").json


def test_an_unknown_revision_says_so_in_code_header_and_body(hub: Hub):
    got = api(hub, "models/org/Model/revision/no-such")

    assert got.status == 404
    assert got.headers["X-Error-Code"] == "RevisionNotFound"
    assert got.headers["X-Error-Message"] == "Invalid rev id: no-such"
    assert got.json == {"error": "Invalid rev id: no-such"}


def test_the_tree_shows_one_folder_or_all_below_it(hub: Hub):
    def paths(path: str) -> list[str]:
        return [row["path"] for row in api(hub, f"models/org/Model/tree/main{path}").json]

    assert paths("") == ["config.json", "model.safetensors", "sub"]
    assert paths("/sub") == ["sub/b c.txt", "sub/deep"]
    assert paths("/sub%2Fdeep") == ["sub/deep/a.txt"]
    assert paths("/sub?recursive=true") == ["sub/b c.txt", "sub/deep", "sub/deep/a.txt"]
    assert len(paths("?recursive=true")) == 6


def test_tree_rows_have_the_recorded_keys(hub: Hub):
    by_path = {row["path"]: row for row in api(hub, "models/org/Model/tree/main").json}

    assert set(by_path["config.json"]) == {"type", "oid", "size", "path"}
    assert set(by_path["model.safetensors"]["lfs"]) == {"oid", "size", "pointerSize"}
    assert by_path["sub"]["type"] == "directory"
    expanded = api(hub, "models/org/Model/tree/main?expand=true").json
    assert expanded[0]["lastCommit"]["title"] == "Second"


def test_the_tree_comes_in_pages(shelf: MemoryShelf):
    gathered = []
    with Hub(shelf, page=4, prefix="/o/r/huggingface") as hub:
        url: str | None = f"{hub.endpoint}/api/models/org/Model/tree/main?recursive=true"
        while url:
            assert url.startswith(f"{hub.endpoint}/api/")
            got = ask(url)
            gathered.append(len(got.json))
            url = next_link(got)

    assert gathered == [4, 2]


def test_a_folder_that_is_not_there_is_404(hub: Hub):
    got = api(hub, "models/org/Model/tree/main/nowhere")

    assert (got.status, got.headers["X-Error-Code"]) == (404, "EntryNotFound")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"paths=sub&paths=no&paths=config.json&expand=False"),
        ("application/json", b'{"paths": ["sub", "no", "config.json"], "expand": false}'),
    ],
)
def test_paths_info_gives_those_that_exist(hub: Hub, kind: str, body: bytes):
    url = f"{hub.endpoint}/api/models/org/Model/paths-info/main"
    got = ask(url, {"Content-Type": kind}, method="POST", body=body)

    assert [row["path"] for row in got.json] == ["sub", "config.json"]


def test_paths_info_that_cannot_be_read_is_400(hub: Hub):
    url = f"{hub.endpoint}/api/models/org/Model/paths-info/main"
    got = ask(url, {"Content-Type": "application/json"}, method="POST", body=b"[1")

    assert got.status == 400


def test_commits_come_newest_first_in_counted_pages(hub: Hub):
    got = api(hub, "models/org/Model/commits/main?limit=1")
    link = next_link(got)
    assert link is not None
    older = ask(link)

    assert got.headers["X-Total-Count"] == "2"
    assert [got.json[0]["title"], older.json[0]["title"]] == ["Second", "First"]
    assert set(got.json[0]) == {"id", "title", "message", "authors", "date"}
    assert next_link(older) is None


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/api/models/legacy", "/api/models/org/Model"),
        ("/api/models/LEGACY/commits/main?limit=1", "/api/models/org/Model/commits/main?limit=1"),
        ("/api/models/Org/model?expand[]=sha", "/api/models/org/Model?expand[]=sha"),
        (
            "/api/models/org/model/revision/refs%2Fpr%2F1",
            "/api/models/org/Model/revision/refs%2Fpr%2F1",
        ),
        ("/legacy/resolve/main/sub/b%20c.txt", "/org/Model/resolve/main/sub/b%20c.txt"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/registry/huggingface"])
def test_another_name_is_a_redirect_to_the_true_one(
    shelf: MemoryShelf, asked: str, target: str, prefix: str
):
    with Hub(shelf, prefix=prefix) as hub:
        got = ask(hub.endpoint + asked)

    assert got.status == 307
    assert got.headers["Location"] == prefix + target
    assert got.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("name", ["org/nothing", "org/private"])
def test_a_missing_and_a_private_model_are_refused_alike(hub: Hub, name: str):
    anonymous = api(hub, f"models/{name}")
    outsider = api(hub, f"models/{name}", OUTSIDER)

    assert anonymous.status == 401
    assert anonymous.headers["X-Error-Message"] == "Invalid username or password."
    assert "X-Error-Code" not in anonymous.headers
    assert anonymous.json == {"error": "Invalid username or password."}
    assert (outsider.status, outsider.headers["X-Error-Code"]) == (404, "RepoNotFound")


def test_a_private_model_is_told_to_those_who_see_it(hub: Hub):
    assert api(hub, "models/org/private", GRANTED).json["private"] is True


def test_a_token_that_is_not_known_is_refused_everywhere(hub: Hub):
    for headers in (bearer("hf_bogus"), bearer("a\x01b"), {"Authorization": f"Basic {GRANTED}"}):
        got = ask(f"{hub.endpoint}/api/models/org/Model", headers)
        assert got.status == 401
        assert got.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
        assert "X-Error-Code" not in got.headers


def test_a_gate_guards_commits_and_the_auth_check_but_not_the_facts(hub: Hub):
    assert api(hub, "models/org/gated").json["gated"] == "auto"
    assert api(hub, "models/org/gated/tree/main").status == 200
    for route in ("commits/main", "auth-check"):
        anonymous = api(hub, f"models/org/gated/{route}")
        outsider = api(hub, f"models/org/gated/{route}", OUTSIDER)
        assert (anonymous.status, anonymous.headers["X-Error-Code"]) == (401, "GatedRepo")
        assert anonymous.json["error"].startswith("Access to model org/gated is restricted.")
        assert (outsider.status, outsider.headers["X-Error-Code"]) == (403, "GatedRepo")
        assert api(hub, f"models/org/gated/{route}", GRANTED).status == 200


def test_a_disabled_model_is_told_with_200_and_its_commits_are_gated(hub: Hub):
    told = api(hub, "models/org/disabled")
    commits = api(hub, "models/org/disabled/commits/main")

    assert (told.status, told.json["disabled"]) == (200, True)
    assert (commits.status, commits.headers["X-Error-Code"]) == (401, "GatedRepo")


def test_whoami_knows_the_account(hub: Hub):
    assert api(hub, "whoami-v2", GRANTED).json["name"] == "ada"
    assert api(hub, "whoami-v2").status == 401


def test_a_hub_for_members_answers_nobody_else(shelf: MemoryShelf):
    with Hub(shelf, tokens=TOKENS, anonymous=False) as hub:
        assert api(hub, "models").status == 401
        assert api(hub, "models", OUTSIDER).status == 200


def test_every_answer_counts_against_the_quota_and_says_so(shelf: MemoryShelf):
    with Hub(shelf, limits={"api": 3}, clock=lambda: 300_000_051.0) as hub:
        answers = [api(hub, f"models/{name}") for name in ("legacy", "no/no", "org/Model")]
        refused = api(hub, "models/org/Model")
        other_bucket = ask(f"{hub.endpoint}/org/Model/resolve/main/config.json")

    assert [got.headers["RateLimit"] for got in answers] == [
        f'"api";r={left};t=249' for left in (2, 1, 0)
    ]
    assert refused.status == 429
    assert refused.headers["RateLimit"] == '"api";r=0;t=249'
    assert refused.headers["RateLimit-Policy"] == '"fixed window";"api";q=3;w=300'
    assert re.search(r"rate limit your IP \(127\.0\.0\.1\)", refused.json["error"])
    assert "Retry-After" not in refused.headers
    assert other_bucket.status == 307


def test_a_new_window_is_a_new_quota(shelf: MemoryShelf):
    times = [600.0]
    with Hub(shelf, limits={"api": 1}, tokens=TOKENS, clock=lambda: times[0]) as hub:
        used = [api(hub, "models", GRANTED).status for _ in range(2)]
        other = api(hub, "models", OUTSIDER).status
        times[0] = 900.0
        again = api(hub, "models", GRANTED).status

    assert (used, other, again) == ([200, 429], 200, 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/api/models/org/Model", 405),
        ("POST", "/api/models", 405),
        ("GET", "/api/models/org/Model/paths-info/main", 405),
        ("PUT", "/org/Model/resolve/main/config.json", 405),
        ("GET", "/api/datasets", 404),
        ("GET", "/api/models/org/Model/xet-read-token/main", 404),
        ("GET", "/org/Model", 404),
        ("GET", "/", 200),
    ],
)
def test_what_the_hub_does_not_do_is_refused(hub: Hub, method: str, path: str, status: int):
    got = ask(hub.endpoint + path, method=method)

    assert got.status == status


def test_below_a_prefix_nothing_is_answered_outside_it(shelf: MemoryShelf):
    with Hub(shelf, prefix="/o/r/huggingface/") as hub:
        outside = ask(f"{hub.origin}/api/models")
        inside = ask(f"{hub.origin}/o/r/huggingface/api/models")

    assert (outside.status, inside.status) == (404, 200)


def test_links_name_the_public_address(shelf: MemoryShelf):
    with Hub(shelf, page=1, public="https://models.example.com/hub/", prefix="/hub") as hub:
        got = ask(f"{hub.origin}/hub/api/models")

    assert hub.endpoint == "https://models.example.com/hub"
    assert str(next_link(got)).startswith("https://models.example.com/hub/api/models?cursor=")
