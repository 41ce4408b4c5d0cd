"""The whole way, from a text to verified files, against our own Hub; the real client judges."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.errors import (
    CredentialMissing,
    FileNotFound,
    FormatError,
    UnsafeName,
    UsageError,
    WrongBytes,
)
from modelbay.plan import Action, Plan
from modelbay.queue import Report
from modelbay.serve import Account, Generated, Hub, MemoryShelf, demo_shelf
from modelbay.snapshot import Hit, Query
from modelbay.text import Secret
from tests.faults.server import Content, Exchange, FaultServer
from tests.layouts import tree

LARGE = Generated(12 << 20, seed="whole way")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = demo_shelf()
    shelf.add(
        "org/mixed",
        {
            "config.json": b'{"model_type": "llama"}',
            "empty.txt": b"",
            "sub/tokenizer.json": b"tokens",
            "model.bin": LARGE,
        },
    )
    tokens = {Secret("hf_granted"): Account("ada", frozenset({"demo/gated-llm"}))}
    with Hub(shelf, tokens=tokens) as hub:
        yield hub


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "MODELBAY_STATE_DIR": str(home / "state"),
        "WORKSPACE": str(home / "workspace"),
        "MODELBAY_CIVITAI_ENDPOINT": hub.endpoint,  # which is none, and says so at once
        **more,
    }


def carried(bay: Bay, *plans: Plan) -> Report:
    run = bay.carry(plans)
    assert run.wait(60)
    return run.report()


def plan_of(bay: Bay, text: str, to: Path | None = None, **choice: object) -> Plan:
    ref = bay.parse(text)
    selection = bay.select(bay.resolve(ref), path=ref.path, **choice)  # type: ignore[arg-type]
    return bay.plan(selection, bay.layout(None, ref, to=to))


def actions(plan: Plan) -> Sequence[Action]:
    return [step.action for step in plan.steps]


def ours_only(path: Path) -> bool:
    return ".modelbay" in path.parts


@pytest.mark.parametrize("repo", ["org/mixed", "demo/sharded-llm", "demo/gguf-quants"])
def test_a_model_lies_in_the_cache_as_the_real_client_would_have_put_it(
    hub: Hub, tmp_path: Path, repo: str
):
    with Bay.open(environ=environment(hub, tmp_path / "ours")) as bay:
        report = carried(bay, plan_of(bay, repo))
    script = f"from huggingface_hub import *; snapshot_download({repo!r})"
    theirs = environment(hub, tmp_path / "theirs")
    subprocess.run([sys.executable, "-P", "-c", script], env=theirs, check=True)

    assert not report.outcomes[0].failed
    ours = tree(tmp_path / "ours/hf/hub", without=ours_only)
    assert ours == tree(tmp_path / "theirs/hf/hub", without=ours_only)


def test_a_second_run_keeps_everything_and_asks_for_no_content(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        carried(bay, plan_of(bay, "org/mixed"))
        before = len([r for r in hub.log if "/resolve" in r.path])
        again = plan_of(bay, "org/mixed")

        assert set(actions(again)) == {Action.KEEP}
        assert carried(bay, again).outcomes[0].kept == 4
    assert len([r for r in hub.log if "/resolve" in r.path]) == before


def test_a_gate_that_is_shut_fails_the_model_before_anything_is_written(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        (outcome,) = carried(bay, plan_of(bay, "demo/gated-llm")).outcomes

    assert {type(row.error) for row in outcome.failed} == {CredentialMissing}
    assert len({id(row.error) for row in outcome.failed}) == 1
    assert not (tmp_path / "hf/hub").exists()


def test_a_granted_token_passes_the_gate_and_never_reaches_the_storage(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path, HF_TOKEN="hf_granted\n")) as bay:
        (outcome,) = carried(bay, plan_of(bay, "demo/gated-llm")).outcomes

    assert not outcome.failed
    assert not [r for r in hub.cdn_log if "authorization" in r.headers]


def test_a_host_that_the_user_wrote_gets_the_token_that_is_named_with_plain_underscores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def answered(exchange: Exchange) -> None:
        exchange.send_raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    environ = {"HOME": str(tmp_path), "MODELBAY_TOKEN_MODELS_OF_OURS_EXAMPLE": "mine"}
    with FaultServer(Content(b"x"), answered) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Bay.open(environ=environ) as bay:
            bay.resolve(bay.parse("http://models-of-ours.example/m.bin"))

        assert [request.header("authorization") for request in proxy.log] == ["Bearer mine"]


def test_a_model_whose_gate_is_shut_does_not_stop_the_others(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        plans = [plan_of(bay, "demo/gated-llm"), plan_of(bay, "org/mixed")]
        gated, mixed = carried(bay, *plans).outcomes

    assert gated.failed
    assert (mixed.fetched, len(mixed.failed)) == (4, 0)


def test_two_models_that_want_one_name_for_different_files_are_told_before_anything_is_written(
    hub: Hub, tmp_path: Path
):
    to = tmp_path / "models"
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        plans = [plan_of(bay, name, to) for name in ("org/mixed", "demo/tiny-llm")]

        with pytest.raises(UsageError, match=r"config\.json is wanted by .*mixed.* and by .*tiny"):
            bay.carry(plans)
    assert list(tmp_path.iterdir()) == []


def test_two_models_with_the_same_file_under_one_name_share_it(hub: Hub, tmp_path: Path):
    to, shared = tmp_path / "models", ["tokenizer.json", "tokenizer_config.json"]
    names = ("demo/tiny-llm", "demo/sharded-llm", "demo/gated-llm")
    with Bay.open(environ=environment(hub, tmp_path, HF_TOKEN="hf_granted")) as bay:
        outcomes = carried(
            bay, *(plan_of(bay, name, to, include=shared) for name in names)
        ).outcomes

    assert [row.error for outcome in outcomes for row in outcome.failed] == []
    assert sum(outcome.fetched + outcome.kept for outcome in outcomes) == 6
    assert sorted(path.name for path in to.glob("*.json")) == shared


@pytest.mark.parametrize(
    "name", ["../escape.bin", "/etc/x.bin", "a/../../b", "con.bin", "a\u202eb"]
)
def test_a_hostile_name_in_a_listing_is_refused_and_nothing_is_written(tmp_path: Path, name: str):
    shelf = MemoryShelf()
    shelf.add("org/hostile", {"config.json": b"{}", name: b"x"})
    with (
        Hub(shelf) as hub,
        Bay.open(environ=environment(hub, tmp_path)) as bay,
        pytest.raises(UnsafeName),
    ):
        bay.resolve(bay.parse("org/hostile"))
    assert list(tmp_path.iterdir()) == []


def test_a_search_that_a_source_does_not_understand_is_told(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        found = list(bay.search(Query("llm", sort="colour")))

    assert {type(one) for one in found} == {UsageError}


def test_a_search_meets_every_page_and_a_source_that_is_down_is_one_more_result(
    hub: Hub, tmp_path: Path
):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        found = list(bay.search(Query("llm", limit=50)))
    titles = {hit.title for hit in found if isinstance(hit, Hit)}

    assert {"demo/tiny-llm", "demo/large-llm"} <= titles
    assert [type(one) for one in found if not isinstance(one, Hit)] == [FileNotFound]


PROVISION = """
[models.demo.made-up]
source = "mock"
org = "demo"
model = "made-up"
layout = "dir"

[models.llm.mixed]
source = "huggingface"
repo = "org/mixed"
revision = "main"
layout = "hf-cache"
exclude = ["*.txt"]
"""


def test_a_lock_is_the_same_bytes_whoever_writes_it_and_syncs_to_the_same_files(
    hub: Hub, tmp_path: Path
):
    (tmp_path / "a.toml").write_text(PROVISION)
    written = []
    for home in ("one", "two"):
        with Bay.open(environ=environment(hub, tmp_path / home)) as bay:
            bay.lock(tmp_path / "a.toml", tmp_path / f"{home}.lock.toml")
        written.append((tmp_path / f"{home}.lock.toml").read_bytes())
    lock = tmp_path / "one.lock.toml"
    with Bay.open(environ=environment(hub, tmp_path / "three")) as bay:
        plans = bay.plans_of(lock)
        carried(bay, *plans)

        assert bay.verify(plans) == sum(plan.size for plan in plans)
        assert all(set(actions(plan)) == {Action.KEEP} for plan in bay.plans_of(lock))
    assert written[0] == written[1]


def test_a_byte_that_flips_after_publication_is_found(hub: Hub, tmp_path: Path):
    (tmp_path / "a.toml").write_text(PROVISION)
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        bay.lock(tmp_path / "a.toml", tmp_path / "a.lock.toml")
        plans = bay.plans_of(tmp_path / "a.lock.toml")
        carried(bay, *plans)
        victim = next(s.target for s in plans[1].steps if s.file.path == "model.bin")
        raw = bytearray(victim.read_bytes())
        raw[7 << 20] ^= 1
        victim.resolve().write_bytes(raw)

        with pytest.raises(WrongBytes, match=r"model\.bin"):
            bay.verify(plans)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("lock-version = 1", "lock-version = 2"),
        ('path = "config.json"', 'path = "../config.json"'),
        ("sha256 = ", "md5 = "),
        ("size = 1", "size = 2"),
        ("[[model]]", "<<<<<<< HEAD"),
    ],
)
def test_a_lock_that_was_changed_is_refused_whole(hub: Hub, tmp_path: Path, old: str, new: str):
    (tmp_path / "a.toml").write_text(PROVISION)
    lock = tmp_path / "a.lock.toml"
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        bay.lock(tmp_path / "a.toml", lock)
        lock.write_text(lock.read_text().replace(old, new, 1))

        with pytest.raises(FormatError):
            bay.plans_of(lock)


def test_the_demo_ends_with_the_line_that_says_what_was_synced(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "modelbay", "demo", "--headless", "--keep", str(tmp_path)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "killed: a sync was killed (SIGKILL)" in done.stderr
    assert "verified: " in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Synced 2 models, 9 files, ")


def test_the_record_of_a_model_names_its_origin_and_every_digest(hub: Hub, tmp_path: Path):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        plan = plan_of(bay, "org/mixed", to=tmp_path / "here")
        carried(bay, plan)
    (record,) = (tmp_path / "here/.modelbay/meta").glob("*.json")
    document = json.loads(record.read_text())

    assert document["ref"] == str(plan.snapshot.ref)
    assert all(len(row["sha256"]) == 64 for row in document["files"])
