"""`modelbay lock`: what it writes, keeps, moves, refuses and says."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.provision import Lock, read_lock
from modelbay.serve import Account, Facts, Hub, MemoryShelf
from modelbay.text import Secret
from tests.syncing import Machine

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HUB = '[models.llm.{0}]\nsource = "huggingface"\nrepo = "org/{0}"\n'
MADE = '[models.vae.made]\nsource = "mock"\nfiles = ["empty.bin"]\n'
BODY = b"\x08\0\0\0\0\0\0\0{}      first"


@pytest.fixture
def shelf() -> MemoryShelf:
    shelf = MemoryShelf()
    for name in ("one", "two"):
        shelf.add(f"org/{name}", {"model.safetensors": BODY, "config.json": b"{}"})
    shelf.add("org/gated", {"model.safetensors": BODY}, facts=Facts(gated="auto"))
    return shelf


@pytest.fixture
def machine(shelf: MemoryShelf, tmp_path: Path) -> Iterator[Machine]:
    tokens = {Secret("hf_granted"): Account("ada", frozenset({"org/gated"}))}
    with Hub(shelf, tokens=tokens) as hub:
        yield Machine(hub, tmp_path / "home")


def asked(hub: Hub | None) -> int:
    assert hub is not None
    return len(hub.log)


def address(machine: Machine, path: str) -> str:
    assert machine.hub is not None
    return f"{machine.hub.endpoint}/org/one/resolve/main/{path}"


def locked(machine: Machine) -> Lock:
    return read_lock(machine.home / "a.lock.toml")


def commits(machine: Machine) -> dict[str, str]:
    return {model.id: model.table["commit"] for model in locked(machine).models}


def test_a_lock_is_written_beside_its_provision_file_and_named_on_stdout(machine: Machine):
    path = machine.write("a.toml", HUB.format("one") + MADE)
    said = machine.run("lock", path)

    assert said.code == 0, said.err
    assert said.out == f"{machine.home / 'a.lock.toml'}\n"
    assert "+ llm/one: 2 files" in said.err
    assert said.last.startswith("Locked 2 models, 3 files")
    assert [model.id for model in locked(machine).models] == ["llm/one", "vae/made"]


def test_what_is_locked_stays_though_its_branch_has_moved(machine: Machine, shelf: MemoryShelf):
    path = machine.write("a.toml", HUB.format("one"))
    assert machine.run("lock", path).code == 0
    before = (machine.home / "a.lock.toml").read_bytes()
    shelf.add("org/one", {"model.safetensors": BODY + b"!", "config.json": b"{}"})
    requests = asked(machine.hub)
    said = machine.run("lock", path)

    assert said.code == 0
    assert (machine.home / "a.lock.toml").read_bytes() == before
    assert asked(machine.hub) == requests
    assert "is up to date" in said.last


def test_a_new_model_is_resolved_and_the_others_stay(machine: Machine, shelf: MemoryShelf):
    path = machine.write("a.toml", HUB.format("one"))
    machine.run("lock", path)
    first = commits(machine)
    shelf.add("org/one", {"model.safetensors": BODY + b"!"})
    path.write_text(HUB.format("one") + HUB.format("two"))
    said = machine.run("lock", path)

    assert commits(machine)["llm/one"] == first["llm/one"]
    assert set(commits(machine)) == {"llm/one", "llm/two"}
    assert "+ llm/two" in said.err
    assert "llm/one:" not in said.err


def test_a_model_that_is_gone_from_the_file_is_gone_from_the_lock(machine: Machine):
    path = machine.write("a.toml", HUB.format("one") + HUB.format("two"))
    machine.run("lock", path)
    path.write_text(HUB.format("two"))
    said = machine.run("lock", path)

    assert set(commits(machine)) == {"llm/two"}
    assert "- llm/one" in said.err.splitlines()
    assert "1 removed, 1 kept" in said.last


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (("--upgrade", "llm/one"), {"llm/one"}),
        (("--upgrade", "llm/one", "--upgrade", "llm/two"), {"llm/one", "llm/two"}),
        (("--upgrade",), {"llm/one", "llm/two"}),
        ((), set()),
    ],
)
def test_upgrade_moves_the_pins_that_it_names(
    machine: Machine, shelf: MemoryShelf, words: tuple[str, ...], moved: set[str]
):
    path = machine.write("a.toml", HUB.format("one") + HUB.format("two"))
    machine.run("lock", path)
    first = commits(machine)
    for name in ("one", "two"):
        shelf.add(f"org/{name}", {"model.safetensors": BODY + b"!", "config.json": b"{}"})
    said = machine.run("lock", path, *words)
    now = commits(machine)

    assert {ident for ident in now if now[ident] != first[ident]} == moved
    for ident in moved:
        assert f"~ {ident}: commit {first[ident][:12]} → {now[ident][:12]}" in said.err


def test_a_pin_is_added_without_moving_what_it_pins(machine: Machine, shelf: MemoryShelf):
    path = machine.write("a.toml", HUB.format("one"))
    machine.run("lock", path)
    first = commits(machine)
    pin = machine.run("lock", path, "--print-hash", "llm/one").out.strip()
    shelf.add("org/one", {"model.safetensors": BODY + b"!"})
    path.write_text(HUB.format("one") + f'hash = "{pin}"\n')
    said = machine.run("lock", path)

    assert said.code == 0, said.err
    assert commits(machine) == first
    assert locked(machine).models[0].original["hash"] == pin


def test_check_asks_nobody_and_writes_nothing(machine: Machine):
    path = machine.write("a.toml", HUB.format("one"))
    machine.run("lock", path)
    requests = asked(machine.hub)
    before = sorted(machine.home.rglob("*"))
    good = machine.run("lock", path, "--check")
    path.write_text(HUB.format("two") + 'revision = "x"\n')
    bad = machine.run("lock", path, "--check")

    assert (good.code, good.out) == (0, "")
    assert bad.code == 1
    assert bad.out.splitlines() == [
        "llm/two is not in the lock",
        "llm/one is in the lock and not in the provision file",
    ]
    assert asked(machine.hub) == requests
    assert sorted(machine.home.rglob("*")) == before


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        ('license_allow = ["mit"]\n', "license_allow is another than the lock was made with"),
        (
            'folders = "comfyui"\n',
            "vae/made goes to the folders of comfyui, and the lock says sdnext",
        ),
        ('[categories]\nvae = "other"\n', "vae/made goes to other, and the lock says VAE"),
    ],
)
def test_check_names_what_of_the_whole_file_differs(machine: Machine, now: str, sentence: str):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    path.write_text(now + MADE)

    assert machine.run("lock", path, "--check").out.splitlines() == [sentence]
    assert machine.run("lock", path).code == 0
    assert machine.run("lock", path, "--check").out == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ('filename = "x.bin"\n', "vae/made was locked with another filename"),
        (
            'layout = "dir"\ndir = "x"\n',
            "vae/made goes to the layout dir, and the lock says folders",
        ),
        ('auth = { token_env = "X" }\n', "vae/made was locked with another auth"),
        (f'hash = "sha256:{EMPTY}"\n', "vae/made was locked with another hash"),
        ('urls = ["https://mirror.example/x"]\n', "vae/made was locked with another urls"),
    ],
)
def test_check_names_what_of_one_entry_differs(machine: Machine, more: str, sentence: str):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    path.write_text(MADE + more)

    assert machine.run("lock", path, "--check").out.splitlines() == [sentence]
    assert machine.run("lock", path).code == 0
    assert machine.run("lock", path, "--check").out == ""


def test_check_without_a_lock_says_where_it_looked(machine: Machine):
    path = machine.write("a.toml", MADE)
    said = machine.run("lock", path, "--check", "--json")

    assert said.code == 1
    place = machine.home / "a.lock.toml"
    assert json.loads(said.out) == {"differences": [f"there is no lock at {place}"], "exit": 1}


def test_files_without_a_digest_are_shown_fetched_into_place_and_kept_by_a_sync(machine: Machine):
    url = address(machine, "config.json")
    path = machine.write("a.toml", f'[models.vae.x]\nurl = "{url}"\n')
    said = machine.run("lock", path)
    plan = said.err.index("no source tells a sha256 of these")

    assert said.code == 0, said.err
    assert "fetch" in said.err[plan:]
    assert (machine.workspace / "sdnext/models/VAE/config.json").read_bytes() == b"{}"
    assert locked(machine).models[0].files[0].sha256 is not None
    assert "1 kept" in machine.run("sync", machine.home / "a.lock.toml", "--yes").last


def test_no_fetch_leaves_models_out_and_names_them(machine: Machine):
    url = address(machine, "config.json")
    path = machine.write("a.toml", f'{MADE}[models.vae.x]\nurl = "{url}"\n')
    said = machine.run("lock", path, "--no-fetch")

    assert said.code == 1
    assert "left out: vae/x: nobody tells a sha256 of config.json" in said.err
    assert [model.id for model in locked(machine).models] == ["vae/made"]
    assert not machine.workspace.exists()


def test_every_failure_is_told_and_the_lock_stays_as_it_is(machine: Machine):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    before = (machine.home / "a.lock.toml").read_bytes()
    path.write_text(
        MADE
        + HUB.format("none")
        + HUB.format("gated")
        + "gated = true\n"
        + MADE.replace("made", "pinned")
        + f'hash = "sha256:{"0" * 64}"\n'
    )
    said = machine.run("lock", path)

    assert said.code == 5
    for ident, code in (("llm/gated", 3), ("llm/none", 8), ("vae/pinned", 5)):
        assert f"failed: {ident} (" in said.err
        assert f"exit {code})" in said.err
    assert said.last == f"{machine.home / 'a.lock.toml'} is as it was"
    assert (machine.home / "a.lock.toml").read_bytes() == before


def test_a_source_that_tells_another_digest_for_the_same_commit_is_refused_with_both(
    machine: Machine,
):
    path = machine.write("a.toml", HUB.format("one"))
    machine.run("lock", path)
    lock = machine.home / "a.lock.toml"
    (model,) = locked(machine).models
    right = hashlib.sha256(BODY).hexdigest()
    tree = model.tree_hash
    wrong_text = lock.read_text().replace(right, "f" * 64)
    files = [
        (f.path, f.size, "f" * 64 if f.path.endswith("rs") else f.digests[0].hex)
        for f in model.files
    ]
    rows = "".join(f"{path}\0{size}\0{sha}\n" for path, size, sha in sorted(files))
    changed = "sha256:" + hashlib.sha256(rows.encode()).hexdigest()
    lock.write_text(wrong_text.replace(tree, changed))
    said = machine.run("lock", path, "--upgrade")

    assert said.code == 5
    assert f"is locked as sha256:{'f' * 64}, and its source now says sha256:{right}" in said.err


def test_print_hash_is_what_hash_accepts_also_without_a_lock(machine: Machine):
    path = machine.write("a.toml", MADE + HUB.format("one"))
    one, several = (machine.run("lock", path, "--print-hash", i) for i in ("vae/made", "llm/one"))

    assert one.out == f"sha256:{EMPTY}\n"
    assert f'hash = "sha256:{EMPTY}"' in one.last
    assert not (machine.home / "a.lock.toml").exists()
    machine.run("lock", path)
    assert several.out.strip() == locked(machine).models[0].tree_hash


def test_print_hash_tells_ours_where_the_pin_is_wrong(machine: Machine):
    path = machine.write("a.toml", f'{MADE}hash = "sha256:{"0" * 64}"\n')

    assert machine.run("lock", path, "--print-hash", "vae/made").out == f"sha256:{EMPTY}\n"


@pytest.mark.parametrize("words", [("--upgrade", "vae/mad"), ("--print-hash", "vae/mad")])
def test_an_id_that_the_file_does_not_have_is_told_with_the_near_one(
    machine: Machine, words: tuple[str, ...]
):
    said = machine.run("lock", machine.write("a.toml", MADE), *words)

    assert said.code == 2
    assert "did you mean 'vae/made'?" in said.err


@pytest.mark.parametrize("flag", ["--upgrade", "--no-fetch"])
def test_check_takes_no_flag_that_would_change_something(machine: Machine, flag: str):
    said = machine.run("lock", machine.write("a.toml", MADE), "--check", flag)

    assert said.code == 2
    assert flag in said.err


@pytest.mark.parametrize("text", [MADE, "# my notes\n", "lock-version = 9\n"])
def test_a_file_that_is_no_lock_of_ours_is_never_overwritten(machine: Machine, text: str):
    other = machine.write("mine.toml", text)
    said = machine.run("lock", machine.write("a.toml", MADE), "-o", other, "--upgrade")

    assert said.code == 2
    assert other.read_text() == text


def test_the_provision_file_itself_is_never_its_lock(machine: Machine):
    path = machine.write("a.toml", MADE)
    said = machine.run("lock", path, "-o", path)

    assert said.code == 9
    assert path.read_text() == MADE


def test_a_lock_is_no_provision_file(machine: Machine):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    said = machine.run("lock", machine.home / "a.lock.toml")

    assert said.code == 2
    assert "is a lock already" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_lock_goes_below_the_workspace_where_its_file_cannot_be_written_beside(
    machine: Machine,
):
    folder = machine.home / "closed"
    folder.mkdir()
    (folder / "a.toml").write_text(MADE)
    folder.chmod(0o555)
    said = machine.run("lock", folder / "a.toml")
    folder.chmod(0o755)

    assert Path(said.out.strip()).parent == machine.workspace / ".modelbay/locks"
    assert "written to" in said.last


def test_the_document_tells_every_model_and_change(machine: Machine):
    path = machine.write("a.toml", MADE)
    first = json.loads(machine.run("lock", path, "--json").out)
    again = json.loads(machine.run("lock", path, "--json").out)

    assert (first["written"], again["written"]) == (True, False)
    assert [one["change"] for one in first["changes"]] == ["added"]
    assert first["models"] == again["models"]
    assert first["models"][0]["id"] == "vae/made"
    assert again["changes"] == []


def test_many_models_are_resolved_at_once_and_told_in_their_order(
    machine: Machine, shelf: MemoryShelf
):
    names = [f"m{number:02}" for number in range(24)]
    for name in names:
        shelf.add(f"org/{name}", {"model.safetensors": BODY})
    path = machine.write("a.toml", "".join(HUB.format(name) for name in reversed(names)))
    said = machine.run("lock", path)

    assert said.code == 0, said.err
    assert [model.id for model in locked(machine).models] == [f"llm/{name}" for name in names]
    marks = [line.split(":")[0] for line in said.err.splitlines() if line.startswith("+ ")]
    assert marks == [f"+ llm/{name}" for name in names]


def test_a_renamed_repository_is_told(machine: Machine, shelf: MemoryShelf):
    shelf.rename("org/old", "org/one")
    path = machine.write("a.toml", HUB.format("old"))
    said = machine.run("lock", path)

    assert said.code == 0, said.err
    assert "note: llm/old: " in said.err
    assert locked(machine).models[0].table["repo"] == "org/one"


def test_a_lock_with_marks_of_a_merge_is_refused_and_untouched(machine: Machine):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    lock = machine.home / "a.lock.toml"
    lock.write_text(lock.read_text().replace("[[model]]", "<<<<<<< ours\n[[model]]"))
    before = lock.read_bytes()
    said = machine.run("lock", path)

    assert said.code == 2
    assert f"{lock}:6:1: a mark of a merge" in said.err
    assert lock.read_bytes() == before


def test_a_licence_that_changed_with_an_upgrade_is_told(machine: Machine, shelf: MemoryShelf):
    path = machine.write("a.toml", HUB.format("one"))
    shelf.add("org/one", {"model.safetensors": BODY}, facts=Facts(licence="mit"))
    machine.run("lock", path)
    shelf.add("org/one", {"model.safetensors": BODY}, facts=Facts(licence="apache-2.0"))
    said = machine.run("lock", path, "--upgrade")

    assert "licence MIT → Apache-2.0" in said.err


def test_a_gate_is_denied_for_a_model_that_is_locked_already(machine: Machine):
    machine.more["HF_TOKEN"] = "hf_granted"
    path = machine.write("a.toml", HUB.format("gated"))
    assert machine.run("lock", path).code == 0
    path.write_text(HUB.format("gated") + "gated = false\n")
    said = machine.run("lock", path)

    assert said.code == 3
    assert "llm/gated is gated, and its entry says gated = false" in said.err


def test_a_lock_that_is_up_to_date_keeps_what_an_older_version_wrote(machine: Machine):
    path = machine.write("a.toml", MADE)
    machine.run("lock", path)
    lock = machine.home / "a.lock.toml"
    lock.write_text(lock.read_text().replace('"modelbay 0.1.0"', '"modelbay 0.0.9"'))
    before = lock.read_bytes()
    machine.run("lock", path)

    assert lock.read_bytes() == before
