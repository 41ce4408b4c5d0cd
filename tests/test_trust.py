"""Provision files and locks from an address: what a hostile one tries, and comes to nothing.

Each file of `hostile/` is named after what it tries and ends with `#! code sentence`: the error
that refuses it. The same harness sees writes, requests and credentials when a file is honest.
"""

import hashlib
import io
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.bay import Bay
from modelbay.cli import run
from modelbay.credentials import Credentials
from modelbay.digest import Digest
from modelbay.errors import (
    FormatError,
    IntegrityError,
    LoginPage,
    ModelbayError,
    PolicyError,
    UsageError,
)
from modelbay.http import Reach
from modelbay.provision import parse_lock, written
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile
from tests.trust_world import MODEL, SECRETS, World, world

HOSTILE = sorted((Path(__file__).parent / "hostile").glob("*.toml"))
SETTINGS = """
[sources.company]
type = "url"
auth = { token_env = "CORP_SECRET" }
"""
HONEST = '[models.vae.x]\nurl = "$OWN/model.safetensors"\n'
TINY = '[models.vae.tiny]\nsource = "huggingface"\nrepo = "demo/tiny-llm"\nfile = "config.json"\n'
CACHED = TINY.replace("vae", "llm") + 'layout = "hf-cache"\n'


@pytest.fixture(scope="module")
def one_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), SETTINGS) as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, SETTINGS) as made:
        yield made


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_a_hostile_file_writes_nothing_reaches_nobody_and_gets_no_credential(
    one_world: World, path: Path
):
    text, _, wanted = path.read_text().rstrip("\n").rpartition("\n#! ")
    code, _, said = wanted.partition(" ")
    one_world.offer(text)
    before = one_world.tree()

    error = one_world.sync()

    assert error is not None, "it was accepted"
    assert said in str(error)
    assert (error.code, error.hint != "") == (code, True)
    assert f"{error}{error.hint}".isprintable()
    assert one_world.tree() == before
    assert one_world.canary.connections == 0
    assert one_world.secrets_seen() == []


def test_there_are_many_hostile_files():
    assert len(HOSTILE) >= 60


def test_an_honest_file_is_written_by_the_same_harness(fresh: World):
    fresh.offer(HONEST)
    before = fresh.tree()

    assert fresh.sync() is None

    written = fresh.tree().keys() - before.keys()
    assert "workspace/sdnext/models/VAE/model.safetensors" in written
    assert fresh.tree()["workspace/sdnext/models/VAE/model.safetensors"] == MODEL


def test_a_private_address_is_asked_once_the_file_is_trusted(fresh: World):
    digest = fresh.offer('[models.vae.x]\nurl = "$CANARY/model.safetensors"\n')

    refused = fresh.sync()
    connections = fresh.canary.connections
    accepted = fresh.sync(trust=digest)

    assert isinstance(refused, PolicyError)
    assert (connections, accepted) == (0, None)
    assert fresh.canary.connections > 0


def test_a_credential_that_a_file_names_is_sent_once_the_file_is_trusted(fresh: World):
    digest = fresh.offer(HONEST + 'auth = { token_env = "CORP_SECRET" }\n')

    refused = fresh.sync()
    before = fresh.secrets_seen()
    accepted = fresh.sync(trust=digest)

    assert isinstance(refused, PolicyError)
    assert (before, accepted, fresh.secrets_seen()) == ([], None, ["CORP_SECRET"])


def test_the_refusal_says_how_to_trust_the_file(fresh: World):
    digest = fresh.offer('workspace = "/x"\n' + HONEST)

    error = fresh.sync()

    assert error is not None
    assert str(error).startswith(f"{fresh.url}:1:1: ")
    assert f"--trust {digest}" in error.hint


def test_a_file_that_is_not_the_trusted_one_is_told_with_both_digests(fresh: World):
    digest = fresh.offer(HONEST)
    wrong = Digest.sha256("0" * 64)

    error = fresh.sync(trust=wrong)

    assert isinstance(error, IntegrityError)
    assert str(wrong) in str(error)
    assert str(digest) in str(error)
    assert fresh.own.seen == [("/models.toml", fresh.own.seen[0][1])]


def test_a_standing_token_goes_to_the_endpoint_it_is_bound_to_and_nowhere_else(fresh: World):
    fresh.offer(TINY + HONEST)

    assert fresh.sync() is None

    heard = [request.headers.get("authorization") for request in fresh.hub.log]
    assert f"Bearer {SECRETS['HF_TOKEN']}" in heard
    assert fresh.secrets_seen() == []


def test_a_token_of_a_host_goes_to_what_the_user_named_and_to_no_other_port(fresh: World):
    fresh.environ["MODELBAY_TOKEN_127_0_0_1"] = "canary-of-this-host"
    digest = fresh.offer('[models.vae.x]\nurl = "$CANARY/model.safetensors"\n' + HONEST[:0])

    refused = fresh.sync()
    quiet = repr(fresh.canary.seen)
    accepted = fresh.sync(trust=digest)

    assert isinstance(refused, PolicyError)
    assert "canary-of-this-host" in repr(fresh.own.seen)
    assert accepted is None
    assert "canary-of-this-host" not in quiet
    assert "canary-of-this-host" in repr(fresh.canary.seen)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"<!DOCTYPE html><title>Sign in</title>", "application/octet-stream"),
        (b"[models.vae.x]\nurl = 'https://a/b'", "text/html; charset=utf-8"),
    ],
)
def test_a_page_in_place_of_the_file_is_called_one(fresh: World, text: bytes, kind: str):
    fresh.offer(text, kind=kind)

    assert isinstance(fresh.sync(), LoginPage)


def test_no_more_than_a_mebibyte_is_read(fresh: World):
    fresh.offer(b"#" * ((1 << 20) + 1))

    error = fresh.sync()

    assert error is not None
    assert "larger than 1 MiB" in str(error)


def test_a_mebibyte_is_read(fresh: World):
    honest = fresh.filled(HONEST).encode()
    fresh.offer(honest + b"#" * ((1 << 20) - len(honest)))

    assert fresh.sync() is None


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("http://example.com/models.toml", "is plain http"),
        ("http://10.0.0.1/models.toml", "is plain http"),
        ("ftp://example.com/models.toml", "is no address of a provision file"),
        ("file:///etc/passwd", "is no address of a provision file"),
        ("https://user:secret@example.com/m.toml", "carries a user name"),
        ("https://[::1/models.toml", "is no address of a provision file"),
    ],
)
def test_an_address_that_no_file_comes_from_is_refused_unasked(
    one_world: World, where: str, said: str
):
    error = one_world.sync(where=where)

    assert isinstance(error, UsageError)
    assert said in str(error)
    assert "secret" not in f"{error}{error.hint}"


def test_plain_http_is_refused_unless_it_is_asked_for(fresh: World):
    fresh.offer(HONEST)

    with Bay.open(environ=fresh.environ) as bay, pytest.raises(UsageError) as caught:
        bay.sync(fresh.url)

    assert "--allow-http" in caught.value.hint
    assert fresh.own.connections == 0


@pytest.mark.parametrize("target", ["$CANARY/models.toml", "https://127.0.0.1:$CANARY_PORT/m"])
def test_the_file_itself_is_not_followed_to_another_private_address(fresh: World, target: str):
    fresh.own.pages["/models.toml"] = b"", "text/plain"

    error = fresh.sync(where=f"{fresh.own.origin}/to/{fresh.filled(target)}")

    assert isinstance(error, PolicyError)
    assert fresh.canary.connections == 0


def test_no_link_that_stands_in_a_folder_is_followed(fresh: World):
    models = fresh.folder / "workspace/sdnext/models"
    models.mkdir(parents=True)
    (fresh.folder / "home/private").mkdir()
    (models / "VAE").symlink_to(fresh.folder / "home/private")
    fresh.offer(HONEST)

    error = fresh.sync()

    assert isinstance(error, ModelbayError)
    assert list((fresh.folder / "home/private").iterdir()) == []


def test_a_licence_policy_of_the_settings_holds_whatever_the_file_allows(tmp_path: Path):
    with world(tmp_path, 'license_allow = ["mit"]\n') as strict:
        strict.offer('license_allow = ["apache-2.0", "mit"]\n' + HONEST)
        before = strict.tree()

        error = strict.sync()

        assert isinstance(error, PolicyError)
        assert strict.tree() == before


def locked(fresh: World, provision: str) -> str:
    """The lock that a trusted run of `provision` writes, on a machine of its own."""
    path = fresh.folder / "own.toml"
    path.write_text(fresh.filled(provision))
    with Bay.open(environ=fresh.environ, workspace=fresh.folder / "first") as bay:
        bay.lock(path, path.with_suffix(".lock.toml"))
    return path.with_suffix(".lock.toml").read_text()


def test_an_honest_lock_is_carried_out(fresh: World):
    fresh.offer(locked(fresh, TINY + HONEST))

    assert fresh.sync() is None

    assert "workspace/sdnext/models/VAE/model.safetensors" in fresh.tree()


def test_a_licence_that_only_a_lock_names_is_no_licence(fresh: World):
    text = locked(fresh, TINY)
    (fresh.folder / "home/config.toml").write_text('license_allow = ["apache-2.0", "mit"]\n')
    fresh.offer(text)

    error = fresh.sync()

    assert isinstance(error, PolicyError)
    assert "licence from the lock alone" in str(error)


def test_a_lock_gives_no_branch_of_the_cache_another_commit(fresh: World):
    fresh.offer(locked(fresh, CACHED))
    for path in sorted((fresh.folder / "home").rglob("refs/*")):
        path.unlink()

    assert fresh.sync() is None

    assert [name for name in fresh.tree() if "/refs/" in name] == []
    assert [name for name in fresh.tree() if name.endswith("/config.json")]


def child(fresh: World, *more: str) -> dict[str, Any]:
    """What a sync of `url` came to in a process whose name service is made up."""
    script = Path(__file__).parent / "trust_names.py"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    made = subprocess.run(
        [sys.executable, "-P", "-B", str(script), *(more or (fresh.url,))],
        env={**environ, **fresh.environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: dict[str, Any] = json.loads(made.stdout)
    return answer


@pytest.mark.parametrize("name", ["inside", "127.0.0.1.nip", "mapped", "metadata", "rebinding"])
def test_a_name_that_leads_to_a_private_address_is_not_connected_to(fresh: World, name: str):
    fresh.offer(f'[models.vae.x]\nurl = "https://{name}.example:$CANARY_PORT/model.safetensors"\n')
    before = fresh.tree()

    answer = child(fresh)

    assert answer["asked"][f"{name}.example"] >= 1
    assert set(answer["tried"]) - {"93.184.216.34"} == {"127.0.0.1"}, "the file's own host"
    assert answer["said"][0] in {"redirect-refused", "unreachable"}
    assert fresh.canary.connections == 0
    assert fresh.tree() == before


def test_a_name_that_leads_to_a_public_address_is_connected_to(fresh: World):
    fresh.offer('[models.vae.x]\nurl = "https://public.example:$CANARY_PORT/model.safetensors"\n')

    answer = child(fresh)

    assert "93.184.216.34" in answer["tried"]
    assert answer["said"][0] == "unreachable"


def test_a_name_that_the_settings_give_an_endpoint_may_be_private(fresh: World):
    fresh.environ["HF_ENDPOINT"] = f"http://inside.example:{fresh.canary.port}"
    fresh.offer(TINY)

    child(fresh)

    assert fresh.canary.connections > 0


def test_the_address_that_the_user_typed_excepts_its_own_port_alone(fresh: World):
    fresh.own.pages["/models.toml"] = (
        f'[models.vae.x]\nurl = "http://localhost:{fresh.canary.port}/x"\n'.encode(),
        "text/plain",
    )

    error = fresh.sync(where=f"http://localhost:{fresh.own.port}/models.toml")

    assert isinstance(error, PolicyError)
    assert fresh.canary.connections == 0


@pytest.mark.parametrize(("name", "expected"), [("inside", 0), ("public", 1)])
def test_a_proxy_is_asked_for_public_names_alone(fresh: World, name: str, expected: int):
    fresh.offer(f'[models.vae.x]\nurl = "https://{name}.example/model.safetensors"\n')
    fresh.environ |= {"HTTPS_PROXY": fresh.canary.origin, "NO_PROXY": "127.0.0.1"}

    answer = child(fresh)

    assert min(fresh.canary.connections, 1) == expected
    assert answer["said"][0] == ("unreachable" if expected else "policy")


def test_a_cache_is_not_filled_with_bytes_that_lie_elsewhere(fresh: World):
    honest = parse_lock(locked(fresh, CACHED), "lock")
    digest = Digest.sha256(hashlib.sha256(MODEL).hexdigest())
    swapped = ModelFile(SafeRelPath.parse("config.json"), len(MODEL), (digest,))
    (model,) = honest.models
    poisoned = written(replace(honest, models=(replace(model, files=(swapped,)),)))
    shutil.rmtree(fresh.folder / "home/.cache")
    fresh.offer(HONEST)
    assert fresh.sync() is None
    trust = fresh.offer(poisoned)

    refused = fresh.sync()
    held = [name for name, content in fresh.tree().items() if content == MODEL]
    accepted = fresh.sync(trust=trust)

    assert isinstance(refused, IntegrityError)
    assert [name for name in held if "huggingface" in name and "quarantine" not in name] == []
    assert accepted is None
    assert [name for name in fresh.tree() if name.endswith("/config.json")], "a link, if trusted"


def cli(fresh: World, *args: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return run([*args], environ=fresh.environ, out=out, err=err), out.getvalue(), err.getvalue()


def test_the_command_says_that_the_file_is_not_trusted_and_how_to_trust_it(fresh: World):
    digest = fresh.offer(HONEST)

    code, _, said = cli(fresh, "sync", fresh.url, "--yes", "--allow-http")

    assert code == 0
    assert f"--trust {digest}" in said
    assert "workspace/sdnext/models/VAE/model.safetensors" in fresh.tree()


def test_the_command_refuses_a_hostile_file_with_the_code_of_a_policy(fresh: World):
    fresh.offer('[models.vae.x]\nurl = "$CANARY/model.safetensors"\n')
    before = fresh.tree().keys()

    code, out, said = cli(fresh, "sync", fresh.url, "--yes", "--allow-http")

    assert (code, out) == (4, "")
    assert "which is not https; the file is not trusted" in said
    assert fresh.canary.connections == 0
    assert [name for name in fresh.tree().keys() - before if "models" in name] == []


def test_a_plan_names_the_host_that_an_entrys_credential_goes_to(fresh: World):
    path = fresh.folder / "own.toml"
    path.write_text(fresh.filled(HONEST) + 'auth = { token_env = "CORP_SECRET" }\n')

    code, out, said = cli(fresh, "sync", str(path), "--dry-run")

    assert code == 0
    assert (
        f"sends the credential in CORP_SECRET to {fresh.own.origin} and to no other" in out + said
    )
    assert SECRETS["CORP_SECRET"] not in out + said


def test_standing_tokens_go_to_the_usual_port_of_their_host_or_to_what_the_user_named():
    environ = {"MODELBAY_TOKEN_MODELS_EXAMPLE": "t"}
    standing = Credentials(environ).standing(frozenset({"https://models.example:9443"}))
    hosts = ["models.example", "models.example:8443", "models.example:9443", "other.example"]
    sent = [standing.find("url", f"https://{host}/x") is not None for host in hosts]

    assert sent == [True, False, True, False]
    assert standing.find("url", "http://models.example/x") is None
    with pytest.raises(PolicyError):
        standing.owned({"token_env": "HOME"}).find("url", "https://models.example/x")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/x",
        "https://8.8.8.8/x",
        "https://[2606:4700::1111]/x",
        "https://bücher.de",
    ],
)
def test_public_addresses_may_be_asked(url: str):
    assert Reach().objection(url) == ""


@given(st.integers(0, (1 << 32) - 1), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_a_number_for_a_host_is_as_private_as_the_address_it_writes(number: int, form: str):
    dotted = str(ipaddress.IPv4Address(number))
    written_so = Reach().objection(f"https://{form.format(number)}/")

    assert written_so == Reach().objection(f"https://{dotted}/")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lock_poisons_a_cache_through_its_tree_hash", "hf-cache holds models of huggingface"),
        ("lock_asks_for_one_commit_and_names_another", "it asks for the commit"),
        ("lock_repo_is_a_path", "without a repo and a commit"),
        ("lock_commit_is_a_path", "without a repo and a commit"),
    ],
)
def test_a_lock_that_contradicts_itself_is_refused_when_it_is_trusted_too(
    one_world: World, name: str, said: str
):
    text = (Path(__file__).parent / "hostile" / f"{name}.toml").read_text()
    trust = one_world.offer(text.rpartition("\n#! ")[0])
    before = one_world.tree()

    error = one_world.sync(trust=trust)

    assert isinstance(error, FormatError)
    assert said in str(error)
    assert one_world.tree() == before


def test_a_trusted_lock_sends_no_credential_to_another_host_than_it_asks_for(fresh: World):
    text = locked(fresh, HONEST + 'auth = { token_env = "CORP_SECRET" }\n')
    asked = f'url = "{fresh.own.origin}/model.safetensors"'
    fresh.own.seen.clear()
    swapped = fresh.filled('url = "$CANARY/model.safetensors"')
    trust = fresh.offer(text.replace(f"url = {{ {asked} }}", f"url = {{ {swapped} }}"))

    error = fresh.sync(trust=trust)

    assert isinstance(error, FormatError)
    assert "its credentials are for" in str(error)
    assert fresh.secrets_seen() == []
    assert fresh.canary.connections == 0


def test_a_trusted_lock_puts_bytes_under_the_name_of_the_repo_that_gives_them(fresh: World):
    text = locked(fresh, CACHED)
    shutil.rmtree(fresh.folder / "home/.cache")
    trust = fresh.offer(text.replace('repo = "demo/tiny-llm"', 'repo = "openai/gpt"', 1))

    assert fresh.sync(trust=trust) is None

    folders = {path.name for path in (fresh.folder / "home").rglob("models--*")}
    assert folders == {"models--demo--tiny-llm"}
