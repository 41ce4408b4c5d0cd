"""What is checked before a lock is made or carried out: licences, pins, gates, places."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelbay.bay import Bay
from modelbay.config import Settings
from modelbay.errors import (
    CredentialMissing,
    FileNotFound,
    FormatError,
    Gated,
    IntegrityError,
    ModelbayError,
    PolicyError,
    UsageError,
)
from modelbay.output.exits import exit_code
from modelbay.provision import read_lock
from modelbay.provision.pins import Pin, read_pin
from modelbay.provision.policy import allowed
from modelbay.serve import Account, Hub, demo_shelf
from modelbay.snapshot import Licence
from modelbay.text import Secret

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
OTHER = "0" * 63 + "1"
TINY = '[models.llm.tiny]\nsource = "huggingface"\nrepo = "demo/tiny-llm"\n'
GATED = '[models.llm.gated]\nsource = "huggingface"\nrepo = "demo/gated-llm"\n'
MADE = '[models.vae.made]\nsource = "mock"\nfiles = ["empty.bin"]\n'


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    tokens = {Secret("hf_granted"): Account("ada", frozenset({"demo/gated-llm"}))}
    with Hub(demo_shelf(), tokens=tokens) as hub:
        yield hub


def environment(hub: Hub, home: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_ENDPOINT": hub.endpoint,
        "WORKSPACE": str(home / "workspace"),
        "MODELBAY_CONFIG": str(home / "config.toml"),
        **more,
    }


def locked(hub: Hub, home: Path, text: str, **more: str) -> Path:
    asked, lock = home / "a.toml", home / "a.lock.toml"
    asked.write_text(text)
    with Bay.open(environ=environment(hub, home, **more)) as bay:
        bay.lock(asked, lock)
    return lock


def refused(kind: type[ModelbayError], hub: Hub, home: Path, text: str, **more: str) -> Any:
    """The refusal of `text`, which left nothing on the disk."""
    with pytest.raises(kind) as caught:
        locked(hub, home, text, **more)
    assert not (home / "workspace").exists()
    assert not (home / "a.lock.toml").exists()
    return caught.value


@pytest.mark.parametrize(
    ("spdx", "allow", "expected"),
    [
        ("Apache-2.0", ["apache-2.0"], True),
        ("MIT", ["apache-2.0"], False),
        ("MIT AND Apache-2.0", ["mit", "apache-2.0"], True),
        ("MIT AND Apache-2.0", ["mit"], False),
        ("MIT", [], False),
        (None, ["mit"], False),
    ],
)
def test_a_licence_is_allowed_when_all_of_it_is_known_and_named(
    spdx: str | None, allow: list[str], *, expected: bool
):
    assert allowed(Licence(spdx, "raw"), allow) is expected


def test_a_model_whose_licence_is_not_allowed_is_named_with_it(hub: Hub, tmp_path: Path):
    error = refused(PolicyError, hub, tmp_path, f'license_allow = ["mit"]\n{TINY}')

    assert str(error) == "llm/tiny has the licence Apache-2.0, and the policy allows mit"
    assert exit_code(error) == 4


@pytest.mark.parametrize(
    "text", [GATED, '[models.vae.x]\nurl = "{}/demo/tiny-llm/resolve/main/config.json"\n']
)
def test_an_unknown_or_absent_licence_is_refused(hub: Hub, tmp_path: Path, text: str):
    policy = 'license_allow = ["mit", "llama3.1"]\n'
    error = refused(PolicyError, hub, tmp_path, policy + text.replace("{}", hub.endpoint))

    assert "only licences with an SPDX id" in error.hint


def test_the_policy_of_the_settings_counts_as_well(hub: Hub, tmp_path: Path):
    (tmp_path / "config.toml").write_text('license_allow = ["mit"]\n')

    refused(PolicyError, hub, tmp_path, f'license_allow = ["apache-2.0"]\n{TINY}')


def test_a_lock_is_judged_again_by_its_own_policy_and_by_the_settings(hub: Hub, tmp_path: Path):
    lock = locked(hub, tmp_path, f'license_allow = ["mit", "apache-2.0"]\n{TINY}{MADE}')
    assert 'policy = { license_allow = ["mit", "apache-2.0"] }' in lock.read_text()
    assert (
        'license = { spdx = "Apache-2.0", raw = "apache-2.0", verdict = "allow" }'
        in lock.read_text()
    )
    strict = lock.with_name("strict.toml")
    strict.write_text(lock.read_text().replace('["mit", "apache-2.0"]', '["mit"]'))
    environ = environment(hub, tmp_path)

    with Bay.open(environ=environ) as bay, pytest.raises(PolicyError, match="llm/tiny"):
        bay.plans_of(strict)
    with (
        Bay(Settings(license_allow=("apache-2.0",)), environ) as bay,
        pytest.raises(PolicyError, match="vae/made"),
    ):
        bay.plans_of(lock)


@pytest.mark.parametrize(
    "pin", [f"sha256:{EMPTY}", "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
)
def test_the_right_pin_of_one_file_is_its_sha256_in_either_form(hub: Hub, tmp_path: Path, pin: str):
    lock = locked(hub, tmp_path, f'{MADE}hash = "{pin}"\n')

    assert read_lock(lock).models[0].pin == Pin(read_pin(pin).digest, sri="-" in pin)


def test_a_wrong_pin_is_told_with_both_values_before_anything_moves(hub: Hub, tmp_path: Path):
    error = refused(IntegrityError, hub, tmp_path, f'{MADE}hash = "sha256:{OTHER}"\n')

    assert str(error) == (
        f"vae/made is not what its hash says: expected sha256:{OTHER}, found sha256:{EMPTY}"
    )
    assert exit_code(error) == 5


def test_a_wrong_pin_that_may_be_from_nix_says_that_those_cannot_be_compared(
    hub: Hub, tmp_path: Path
):
    nix = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
    error = refused(IntegrityError, hub, tmp_path, f'{MADE}hash = "{nix}"\n')

    assert "NAR" in error.hint
    assert EMPTY in error.hint


def test_several_files_are_pinned_by_their_tree_hash(hub: Hub, tmp_path: Path):
    tree = read_lock(locked(hub, tmp_path, TINY)).models[0].tree_hash
    (tmp_path / "again").mkdir()

    locked(hub, tmp_path / "again", f'{TINY}hash = "{tree}"\n')
    with pytest.raises(IntegrityError, match=tree):
        locked(hub, tmp_path, f'{TINY}hash = "sha256:{OTHER}"\n')


def test_wrong_bytes_behind_an_address_are_never_published(hub: Hub, tmp_path: Path):
    url = f"{hub.endpoint}/demo/tiny-llm/resolve/main/config.json"
    text = f'[models.vae.x]\nurl = "{url}"\nhash = "sha256:{OTHER}"\n'
    with pytest.raises(IntegrityError, match=f"vae/x is not what its hash says.*{OTHER}"):
        locked(hub, tmp_path, text)

    assert not (tmp_path / "workspace/sdnext/models/VAE/config.json").exists()


def test_a_lock_whose_pin_and_files_differ_is_not_carried_out(hub: Hub, tmp_path: Path):
    lock = locked(hub, tmp_path, f'{MADE}hash = "sha256:{EMPTY}"\n')
    pinned = f'hash = "sha256:{EMPTY}"'
    lock.write_text(lock.read_text().replace(pinned, f'hash = "sha256:{OTHER}"'))

    with (
        Bay.open(environ=environment(hub, tmp_path)) as bay,
        pytest.raises(IntegrityError, match="vae/made"),
    ):
        bay.plans_of(lock)


def test_a_gate_without_a_token_stops_everything_before_anything_moves(hub: Hub, tmp_path: Path):
    error = refused(CredentialMissing, hub, tmp_path, f"{GATED}gated = true\n{TINY}")

    assert exit_code(error) == 3
    assert "demo/gated-llm" in error.hint


def test_a_gate_that_an_entry_says_and_nobody_can_pass_needs_a_token_all_the_same(
    hub: Hub, tmp_path: Path
):
    error = refused(CredentialMissing, hub, tmp_path, f"{TINY}gated = true\n")

    assert "HF_TOKEN" in error.hint


def test_a_gate_that_an_entry_denies_is_told_with_the_page_to_accept_on(hub: Hub, tmp_path: Path):
    error = refused(Gated, hub, tmp_path, f"{GATED}gated = false\n", HF_TOKEN="hf_granted")

    assert f"{hub.endpoint}/demo/gated-llm" in error.hint


def test_a_granted_token_locks_a_gated_model_and_the_lock_knows_its_gate(hub: Hub, tmp_path: Path):
    lock = locked(hub, tmp_path, f"{GATED}gated = true\n", HF_TOKEN="hf_granted")

    assert read_lock(lock).models[0].gated == "auto"
    assert "hf_granted" not in lock.read_text()


def test_a_token_that_only_the_entry_names_is_used_for_it(hub: Hub, tmp_path: Path):
    auth = 'gated = true\nauth = { token_env = "MINE" }\n'
    lock = locked(hub, tmp_path, GATED + auth, MINE="hf_granted")
    environ = environment(hub, tmp_path / "other", MINE="hf_granted")
    with Bay.open(environ=environ) as bay:
        run = bay.carry(bay.plans_of(lock))
        assert run.wait(30)

        assert not [row.error for row in run.rows if row.error]


def test_a_listed_file_that_is_not_there_is_told_with_the_near_names(hub: Hub, tmp_path: Path):
    text = f'{TINY}files = ["config.json", "model.safetensor"]\n'
    error = refused(FileNotFound, hub, tmp_path, text)

    assert "near names: model.safetensors" in error.hint
    assert exit_code(error) == 8


def test_two_models_that_would_be_one_file_are_both_named(hub: Hub, tmp_path: Path):
    repo = 'source = "huggingface"\nrepo = "demo/{}"\nfile = "model.safetensors"\n'
    first, second = repo.format("tiny-llm"), repo.format("large-llm")
    text = f"[models.lora.a]\n{first}[models.lora.b]\n{second}"
    error = refused(UsageError, hub, tmp_path, text)

    assert "lora/a and lora/b would both be" in str(error)


def test_a_source_of_a_later_version_stops_the_lock_before_anything_is_asked(
    hub: Hub, tmp_path: Path
):
    before = len(hub.log)
    refused(UsageError, hub, tmp_path, f'{TINY}[models.llm]\na = "xet://host/a"\n')

    assert len(hub.log) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('dir = "VAE"', 'dir = "../../etc"'),
        ('dir = "VAE"', 'dir = "/etc"'),
        ('dir = "VAE"', 'dir = "../embeddings"'),
        ('folders = "sdnext"', 'folders = "mine"'),
        ('folders = "sdnext", ', ""),
        ('layout = "folders"', 'layout = "everywhere"'),
        ('  name = "made.bin"', '  name = "../made.bin"'),
        ('gated = "no"', "gated = 1"),
        ('id = "vae/made"', "id = 3"),
        (', hash = "sha256:', ', hash = "sha512:'),
    ],
)
def test_a_lock_whose_place_was_changed_is_refused_whole(
    hub: Hub, tmp_path: Path, old: str, new: str
):
    lock = locked(hub, tmp_path, f'{MADE}filename = "made.bin"\nhash = "sha256:{EMPTY}"\n')
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new, 1))

    with Bay.open(environ=environment(hub, tmp_path)) as bay, pytest.raises(FormatError):
        bay.plans_of(lock)


def test_headers_of_an_entry_are_sent_to_its_address(hub: Hub, tmp_path: Path):
    url = f"{hub.endpoint}/demo/tiny-llm/resolve/main/config.json"
    locked(hub, tmp_path, f'[models.vae.x]\nurl = "{url}"\nheaders = {{ X-Team = "ours" }}\n')
    asked = [request for request in hub.log if request.path.endswith("/config.json")]

    assert {request.headers.get("x-team") for request in asked[-2:]} == {"ours"}


def test_the_settings_say_whose_folders_when_the_file_does_not(hub: Hub, tmp_path: Path):
    (tmp_path / "config.toml").write_text('folders = "comfyui"\n[categories]\nvae = "my/vae"\n')
    place = read_lock(locked(hub, tmp_path, MADE)).models[0].place

    assert (place.folders, place.category, place.dir) == ("comfyui", "vae", "my/vae")
