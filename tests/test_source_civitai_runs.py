"""CivitAI from the command line: gates, folders, locks, kills, and where a key goes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.provision import read_lock, written
from tests.doubles.civitai import REFUSALS, Civitai, File, Model, Version, weights
from tests.scripted import Reply, Scripted
from tests.syncing import Machine

KEY = "civ-canary-5f1e"
MIB = 1 << 20
ONE, TWO, VAE = weights("one", 300_000), weights("two", 5_000), weights("vae")
ASKED = """
[models.lora.detail-tweaker]
source = "civitai"
version_id = "58390"
[models.lora.older]
source = "civitai"
version_id = 58389
filename = "custom_name.safetensors"
[models.vae.beside]
source = "civitai"
version_id = "58390"
file_id = "72"
[models.lora]
newest = "civitai://model/900"
"""
LORA = "sdnext/models/Lora"


def catalogue() -> list[Model]:
    vae = File(72, "beside.vae.safetensors", VAE, type="VAE", primary=False)
    detail = [
        Version(58390, "v2", [File(71, "add_detail.safetensors", ONE), vae]),
        Version(58389, "v1", [File(70, "add_detail.safetensors", TWO)]),
    ]
    newest = Version(901, "x", [File(902, "newest.safetensors", TWO)])
    flows = Version(801, "w", [File(802, "flow.json", b'{"a": 1}', type="Workflow")])
    return [
        Model(58, "Detail Tweaker", "LORA", detail),
        Model(900, "Newest", "LoCon", [newest]),
        Model(800, "Flow", "Workflows", [flows]),
    ]


@pytest.fixture
def double() -> Iterator[Civitai]:
    with Civitai(*catalogue(), keys=(KEY,)) as made:
        yield made


def machine(double: Civitai, home: Path, **more: str) -> Machine:
    return Machine(None, home, {"MODELBAY_CIVITAI_ENDPOINT": double.url, **more})


def needing(double: Civitai, needs: str) -> None:
    for _, version in double.versions:
        version.needs = needs


def test_a_type_chooses_the_folder_unless_a_category_is_named(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)

    assert one.run("get", "civitai://58390").code == 0
    assert one.run("get", "civitai://58390+72").code == 0
    assert one.run("get", "civitai://901", "--category", "checkpoints").code == 0
    assert one.files() == {
        f"{LORA}/add_detail.safetensors": ONE,
        "sdnext/models/Stable-diffusion/newest.safetensors": TWO,
        "sdnext/models/VAE/beside.vae.safetensors": VAE,
    }


def test_what_no_folder_is_for_goes_where_one_says(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    said = one.run("get", "civitai://801")

    assert said.code == 2
    assert "what kind of model civitai://801" in said.err
    assert "--category" in said.err
    assert one.run("get", "civitai://801", "--to", tmp_path / "flows").code == 0
    assert (tmp_path / "flows/flow.json").read_bytes() == b'{"a": 1}'


def test_show_tells_where_it_would_go_and_why_it_would_not(double: Civitai, tmp_path: Path):
    double.models[0].versions[0].files[0].virus = "Danger"
    one = machine(double, tmp_path)
    said = one.run("show", "civitai://58390")

    assert said.code == 0
    assert "virus scan: Danger" in said.out
    assert "`modelbay get` would fail" in said.err
    document = json.loads(one.run("show", "civitai://58389", "--json").out)
    assert document["plan"]["root"] == str(one.workspace / LORA)


@pytest.mark.parametrize("command", ["get", "lock", "sync"])
def test_a_file_that_was_found_harmful_is_refused_by_every_command(
    double: Civitai, tmp_path: Path, command: str
):
    for file in double.models[0].versions[0].files:
        file.pickle = "Danger"
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.lora.x]\nsource = "civitai"\nversion_id = "58390"\n')
    said = one.run(command, "civitai://58390" if command == "get" else asked)

    assert said.code == 4
    assert "pickle scan: Danger" in said.err
    assert not double.store


def test_a_login_that_is_wanted_names_the_variable_and_a_key_passes_it(
    double: Civitai, tmp_path: Path
):
    needing(double, "login")
    said = machine(double, tmp_path).run("get", "civitai://58390")

    assert said.code == 3
    assert "signed-in users only, and no token was found" in said.err
    assert f"{double.url}/user/account" in said.err
    assert "export CIVITAI_TOKEN=" in said.err
    one = machine(double, tmp_path, CIVITAI_TOKEN=KEY)
    assert one.run("get", "civitai://58390").code == 0
    assert one.files() == {f"{LORA}/add_detail.safetensors": ONE}


@pytest.mark.parametrize("pages", [False, True])
def test_a_key_that_is_nobodys_is_refused_by_where_it_came_from(
    double: Civitai, tmp_path: Path, *, pages: bool
):
    needing(double, "login")
    double.sends_to_pages = pages
    said = machine(double, tmp_path, CIVITAI_TOKEN="wrong-key").run("get", "civitai://58390")

    assert said.code == 3
    assert "did not accept the token from CIVITAI_TOKEN" in said.err
    assert "wrong-key" not in said.out + said.err


@pytest.mark.parametrize("refuses", [False, True])
def test_a_redirect_to_the_page_to_sign_in_at_is_a_login_and_no_model(
    double: Civitai, tmp_path: Path, *, refuses: bool
):
    needing(double, "login")
    double.sends_to_pages, double.login_page_refuses = True, refuses
    one = machine(double, tmp_path)
    said = one.run("get", "civitai://58390")

    assert said.code == 3
    assert "export CIVITAI_TOKEN=" in said.err
    assert not one.files()
    assert not [path for path in double.paths() if path.startswith("/login")]


@pytest.mark.parametrize(
    ("needs", "code", "says", "hint"),
    [
        ("disabled", 3, "has disabled its downloads", "no token helps"),
        ("no-access", 3, "no access to", "ask for access at"),
        ("early", 3, "in early access on 127.0.0.1", "until 2026-10-11 14:30 UTC"),
        ("paid", 3, "in early access on 127.0.0.1", "buy it at"),
        ("region", 3, "in this region (451)", "[endpoints] civitai"),
        ("archived", 8, "is archived on", "its page may say why"),
        ("gone", 8, "it is not there, or not now: File not found", "run the same command again"),
    ],
)
def test_a_refusal_is_a_sentence_with_its_code_and_the_next_step(
    double: Civitai, tmp_path: Path, needs: str, code: int, says: str, hint: str
):
    assert needs in REFUSALS
    needing(double, needs)
    one = machine(double, tmp_path, CIVITAI_TOKEN=KEY)
    said = one.run("get", "civitai://58390")

    assert said.code == code
    assert says in said.err
    assert hint in said.err
    assert not one.files()


def test_a_redirect_to_the_page_of_a_version_is_early_access(double: Civitai, tmp_path: Path):
    needing(double, "early")
    double.sends_to_pages = True
    said = machine(double, tmp_path).run("get", "civitai://58390")

    assert said.code == 3
    assert "is in early access" in said.err


def test_a_guard_in_front_is_trouble_of_the_network(double: Civitai, tmp_path: Path):
    double.guarded = True
    said = machine(double, tmp_path).run("get", "civitai://58390")

    assert said.code == 6
    assert "a guard in front of 127.0.0.1" in said.err


def test_the_key_goes_to_civitai_and_neither_to_the_store_nor_to_a_disk(
    double: Civitai, tmp_path: Path
):
    one = machine(double, tmp_path, CIVITAI_TOKEN=KEY)
    asked = one.write("a.toml", ASKED)
    said = one.run("sync", asked)

    assert said.code == 0, said.err
    assert double.store
    assert all(request.authorised for request in double.api)
    assert not any(request.authorised for request in double.store)
    signatures = [request.path.partition("X-Amz-Signature=")[2][:64] for request in double.store]
    written_down = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    seen = b"".join(written_down) + (said.out + said.err).encode()
    assert b"58390" in seen
    assert not [secret for secret in (KEY, *signatures) if secret.encode() in seen]


def test_a_redirect_to_a_foreign_host_carries_no_key(double: Civitai, tmp_path: Path):
    with Scripted({"/": Reply(200, ONE)}) as foreign:
        double.elsewhere = f"{foreign.url.replace('127.0.0.1', 'localhost')}/"
        one = machine(double, tmp_path, CIVITAI_TOKEN=KEY)

        assert one.run("get", "civitai://58390").code == 0
        assert foreign.asked
        assert not [asked for asked in foreign.asked if "authorization" in asked.headers]


def test_the_key_of_an_entry_is_for_that_entry_and_is_said_to_be(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path, TEAM_KEY=KEY)
    entry = '[models.lora.x]\nsource = "civitai"\nversion_id = "58390"\n'
    asked = one.write("a.toml", entry + 'auth = { token_env = "TEAM_KEY" }\n')
    needing(double, "login")
    said = one.run("sync", asked)

    assert said.code == 0, said.err
    assert f"sends the credential in TEAM_KEY to {double.url} and to no other host" in said.err
    assert 'auth = { token_env = "TEAM_KEY" }' in (tmp_path / "a.lock.toml").read_text()


def test_a_lock_alone_brings_every_file_to_an_empty_machine_and_asks_only_for_files(
    double: Civitai, tmp_path: Path
):
    first = machine(double, tmp_path / "first")
    asked, lock = first.write("a.toml", ASKED), first.home / "a.lock.toml"
    assert first.run("lock", asked).code == 0
    assert first.files() == {}
    double.forget()
    double.closed_routes = True
    second = machine(double, tmp_path / "second")
    said = second.run("sync", lock)

    assert said.code == 0, said.err
    assert second.files() == {
        f"{LORA}/add_detail.safetensors": ONE,
        f"{LORA}/custom_name.safetensors": TWO,
        f"{LORA}/newest.safetensors": TWO,
        "sdnext/models/VAE/beside.vae.safetensors": VAE,
    }
    assert {path.partition("?")[0] for path in double.paths()} <= {
        f"/api/download/models/{number}" for number in (58389, 58390, 901)
    }
    with second.bay() as bay:
        assert bay.verify(bay.plans_of(lock)) > len(ONE)
    assert second.run("sync", lock, "--check").code == 0
    assert written(read_lock(lock)) == lock.read_bytes()


def test_a_lock_is_the_same_bytes_when_it_is_made_again(double: Civitai, tmp_path: Path):
    locks = []
    for name in ("one", "two"):
        one = machine(double, tmp_path / name)
        assert one.run("lock", one.write("a.toml", ASKED)).code == 0
        locks.append((one.home / "a.lock.toml").read_bytes())

    assert locks[0] == locks[1]
    assert b'model-id = "900", version-id = "901", file-id = "902"' in locks[0]


def test_a_newer_version_is_told_and_taken_only_when_asked_for(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.lora]\nnewest = "civitai://model/900"\n')
    assert one.run("sync", asked).code == 0
    newer = Version(950, "y", [File(951, "newest.safetensors", ONE)])
    double.models[1].versions.insert(0, newer)

    assert "950+951"[:8] in one.run("outdated", "--lock", one.home / "a.lock.toml").out
    assert one.run("sync", asked).code == 0
    assert one.files() == {f"{LORA}/newest.safetensors": TWO}
    assert one.run("lock", asked, "--upgrade").code == 0
    assert one.run("sync", asked).code == 0
    assert one.files() == {f"{LORA}/newest.safetensors": ONE}
    assert one.run("verify").code == 0
    assert one.run("rm", "lora/newest", "--yes").code == 0
    assert one.files() == {}


def test_what_is_gone_when_a_lock_is_replayed_is_not_found(double: Civitai, tmp_path: Path):
    first = machine(double, tmp_path / "first")
    asked = first.write("a.toml", '[models.lora]\nnewest = "civitai://901"\n')
    assert first.run("lock", asked).code == 0
    del double.models[1]
    second = machine(double, tmp_path / "second")
    said = second.run("sync", first.home / "a.lock.toml")

    assert said.code == 8
    assert "lora/newest" in said.err


@pytest.mark.parametrize("hashes", [("SHA256",), ("BLAKE3",), ("AutoV2",)])
def test_wrong_bytes_are_refused_by_whatever_digest_is_told(
    double: Civitai, tmp_path: Path, hashes: tuple[str, ...]
):
    file = double.models[1].versions[0].files[0]
    file.hashes, file.served = hashes, weights("other", len(TWO))
    one = machine(double, tmp_path)
    said = one.run("get", "civitai://901")

    assert said.code == 5
    assert not one.files()
    file.served = None
    assert one.run("get", "civitai://901").code == 0
    assert one.files() == {f"{LORA}/newest.safetensors": TWO}


def test_what_has_no_sha256_is_fetched_once_for_its_lock_and_kept(double: Civitai, tmp_path: Path):
    double.models[1].versions[0].files[0].hashes = ("AutoV2",)
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.lora]\nnewest = "civitai://901"\n')

    assert one.run("lock", asked).code == 0
    assert one.run("sync", asked, "--locked").code == 0
    assert double.stored_bytes() == len(TWO)
    (model,) = read_lock(one.home / "a.lock.toml").models
    assert [digest.algorithm for digest in model.files[0].digests] == ["sha256"]


def test_a_link_that_ran_out_is_asked_for_again(double: Civitai, tmp_path: Path):
    double.expired = 1
    one = machine(double, tmp_path)

    assert one.run("get", "civitai://58390").code == 0
    assert one.files() == {f"{LORA}/add_detail.safetensors": ONE}
    assert len([path for path in double.paths() if "/download/" in path]) == 2


def test_a_fetch_that_was_killed_half_way_goes_on_where_it_was(double: Civitai, tmp_path: Path):
    large = weights("large", 8 * MIB)
    double.models[1].versions[0].files[0].body = large
    one = machine(double, tmp_path, MODELBAY_BANDWIDTH="3MB/s")
    parts = one.workspace / "sdnext/models/.modelbay/parts"
    with one.start("get", "civitai://901", "--progress", "none") as child:
        until = time.monotonic() + 60
        while not list(parts.glob("*.journal")) and time.monotonic() < until:
            time.sleep(0.02)
        child.kill()
    assert not one.files()
    double.forget()
    again = machine(double, tmp_path)

    assert again.run("get", "civitai://901").code == 0
    assert again.files() == {f"{LORA}/newest.safetensors": large}
    assert double.stored_bytes() < len(large)


@pytest.mark.parametrize("name", ["../../evil.safetensors", "a\\b.safetensors", "con.safetensors"])
def test_a_hostile_name_of_a_file_writes_nothing(double: Civitai, tmp_path: Path, name: str):
    double.models[1].versions[0].files[0].name = name
    one = machine(double, tmp_path)
    said = one.run("get", "civitai://901")

    assert said.code == 5
    assert not one.files()
    assert not double.store


def test_two_versions_with_one_file_name_are_told_apart_by_another_filename(
    double: Civitai, tmp_path: Path
):
    one = machine(double, tmp_path)
    entry = '[models.lora.{0}]\nsource = "civitai"\nversion_id = "{0}"\n'
    asked = one.write("a.toml", entry.format(58390) + entry.format(58389))
    said = one.run("sync", asked)

    assert said.code == 2
    assert "lora/58389 and lora/58390 would both be" in said.err
    assert 'filename = "…"' in said.err


def test_a_category_that_is_not_the_types_own_is_noted(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.vae.x]\nsource = "civitai"\nversion_id = "58390"\n')
    said = one.run("sync", asked)

    assert said.code == 0
    assert "its source says that it belongs to lora, not vae" in said.err


def test_a_number_of_a_model_in_an_entry_is_explained(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.lora.x]\nsource = "civitai"\nversion_id = "58"\n')
    said = one.run("lock", asked)

    assert said.code == 8
    assert "58 is the number of a model" in said.err
    assert "model_id = 58" in said.err


def test_offline_nothing_is_asked_and_what_is_here_is_kept(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    asked = one.write("a.toml", '[models.lora]\nnewest = "civitai://901"\n')
    assert one.run("sync", asked).code == 0
    double.forget()

    assert one.run("sync", asked, "--offline").code == 0
    assert one.run("--offline", "get", "civitai://58390").code in {2, 6}
    assert not double.api


def test_an_export_names_versions_and_brings_the_same_files(double: Civitai, tmp_path: Path):
    first = machine(double, tmp_path / "first")
    assert first.run("sync", first.write("a.toml", ASKED)).code == 0
    exported = first.home / "out.toml"
    assert first.run("export", exported).code == 0
    second = machine(double, tmp_path / "second")

    assert 'version_id = "901"' in exported.read_text()
    assert second.run("sync", exported).code == 0
    assert second.files() == first.files()


def test_a_search_from_the_command_line_gives_refs_that_get_understands(
    double: Civitai, tmp_path: Path
):
    one = machine(double, tmp_path)
    said = one.run("search", "newest", "--source", "civitai", "--filter", "type:LoCon", "--json")
    (hit,) = json.loads(said.out)["hits"]

    assert hit["title"] == "Newest"
    assert one.run("get", hit["ref"]).code == 0
    assert one.files() == {f"{LORA}/newest.safetensors": TWO}


def test_a_program_finds_the_category_on_the_snapshot(double: Civitai, tmp_path: Path):
    one = machine(double, tmp_path)
    with one.bay() as bay:
        snapshot = bay.resolve(bay.parse("civitai://901"))
        layout = bay.layout(None, snapshot.ref, told=snapshot.category)
        plan = bay.plan(bay.select(snapshot), layout)

        assert isinstance(bay, Bay)
        assert plan.root == one.workspace.resolve() / LORA
