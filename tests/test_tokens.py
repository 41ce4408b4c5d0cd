"""Tokens in a keyring: what is refused, what is kept, who gets them and in which order."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import CredentialMissing, KeyringTrouble, UsageError
from modelbay.http import Client
from modelbay.keyrings import Backend
from modelbay.location import Credential
from modelbay.serve import Hub, demo_shelf
from modelbay.serve.access import Account
from modelbay.text import Secret
from modelbay.tokens import TokenName, Tokens, basic, host_of
from tests.keyrings import (
    Clinging,
    Forgetful,
    Login,
    Memory,
    Raising,
    Silent,
    keyring_of,
)
from tests.scripted import Asked, Reply, Scripted

HUB = "https://huggingface.co"
HF = TokenName("huggingface", "huggingface.co")
CANARY = "hf_C4n4ryOfTheKeyring"
WORK = "hf_TheOtherOfTheKeyring"


def tokens_in(folder: Path, backend: Backend | None = None, **more: str) -> Tokens:
    keyring = keyring_of(backend or Memory(), seconds=0.2 if isinstance(backend, Silent) else None)
    return Tokens({"HOME": str(folder), **more}, keyring=lambda: keyring)


def value(found: Credential | None) -> str | None:
    return None if found is None else found.value.reveal()


@pytest.fixture
def hub() -> Iterator[Hub]:
    people = {
        Secret(CANARY): Account("ada", frozenset({"*"})),
        Secret(WORK): Account("ada-at-work", frozenset({"*"})),
    }
    with Hub(demo_shelf(), tokens=people) as served:
        yield served


@pytest.fixture
def login(hub: Hub, tmp_path: Path) -> Login:
    return Login(hub, tmp_path / "login")


def test_a_token_is_kept_under_the_names_that_other_programs_can_rely_on(tmp_path):
    backend = Memory()

    tokens_in(tmp_path, backend).keep(HF, Secret(CANARY))
    tokens_in(tmp_path, backend).keep(TokenName("url", "a.b:8443", "work"), Secret(WORK))

    assert backend.kept == {
        ("modelbay:huggingface:huggingface.co", "default"): CANARY,
        ("modelbay:url:a.b:8443", "work"): WORK,
    }


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://huggingface.co/x", "huggingface.co"), ("https://A.b:443", "a.b"),
        ("https://a.b:8443", "a.b:8443"), ("http://a.b", "a.b:80"), ("http://a.b:443", "a.b:443"),
        ("http://127.0.0.1:9000/p", "127.0.0.1:9000"), ("https://[::1]:7/", "[::1]:7"),
    ],
)  # fmt: skip
def test_every_service_of_a_host_has_its_own_tokens(url, host):
    assert host_of(url) == host


def test_names_are_listed_and_values_are_not_written(tmp_path):
    tokens = tokens_in(tmp_path)
    tokens.keep(TokenName("url", "b.example", "work"), Secret(WORK))

    tokens.keep(HF, Secret(CANARY))

    again = tokens_in(tmp_path)
    assert again.known() == (HF, TokenName("url", "b.example", "work"))
    (listed,) = tmp_path.rglob("tokens.json")
    assert CANARY not in listed.read_text()
    assert listed.stat().st_mode & 0o077 == 0


def test_two_logins_that_store_at_once_are_both_listed(tmp_path):
    backend = Memory()
    names = [TokenName("url", f"h{number}.example") for number in range(8)]
    threads = [
        threading.Thread(target=tokens_in(tmp_path, backend).keep, args=(name, Secret("t")))
        for name in names
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert tokens_in(tmp_path).known() == tuple(names)


@pytest.mark.parametrize("text", ["[", "{}", '[{"source": "x"}]', '["x"]', '[{"a": 1}]'])
def test_a_broken_list_is_as_none(tmp_path, text):
    tokens = tokens_in(tmp_path)
    tokens.keep(HF, Secret(CANARY))
    next(tmp_path.rglob("tokens.json")).write_text(text)

    listed = tokens.known()

    assert listed == ()
    assert tokens.get(HF) == Secret(CANARY)


def test_what_is_taken_away_is_gone_and_not_listed(tmp_path):
    tokens = tokens_in(tmp_path)
    tokens.keep(HF, Secret(CANARY))

    assert [tokens.forget(HF), tokens.forget(HF)] == [True, False]

    assert (tokens.get(HF), tokens.known()) == (None, ())


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (Forgetful(), "did not give it back"),
        (Raising(), "is locked, and nobody unlocked it"),
        (Raising(error=RuntimeError("Prompt dismissed..")), "is locked"),
        (Raising(error=OSError(f"dbus: {CANARY}")), "cannot be used (OSError)"),
        (Raising(error=RuntimeError(CANARY)), "cannot be used (RuntimeError)"),
    ],
)  # fmt: skip
def test_a_keyring_that_keeps_nothing_is_said_and_nothing_is_listed(tmp_path, backend, said):
    tokens = tokens_in(tmp_path, backend)

    with pytest.raises(KeyringTrouble) as raised:
        tokens.keep(HF, Secret(CANARY))

    assert said in str(raised.value)
    assert CANARY not in f"{raised.value}{raised.value.hint}{raised.value.__cause__!r}"
    assert "environment" in raised.value.hint
    assert tokens.known() == ()


def test_a_failed_replacement_leaves_the_old_one_listed(tmp_path):
    tokens_in(tmp_path).keep(HF, Secret(CANARY))
    failing = tokens_in(tmp_path, Raising())

    with pytest.raises(KeyringTrouble):
        failing.keep(HF, Secret(WORK))

    assert failing.known() == (HF,)


def test_a_token_that_is_still_there_after_it_was_deleted_is_said(tmp_path):
    tokens = tokens_in(tmp_path, Clinging())
    tokens.keep(HF, Secret(CANARY))

    with pytest.raises(KeyringTrouble, match="still has the token"):
        tokens.forget(HF)

    assert tokens.known() == (HF,)


def test_a_silent_keyring_is_waited_for_once(tmp_path):
    backend = Silent()
    tokens, begun = tokens_in(tmp_path, backend), time.monotonic()

    for name in ("default", "work", "other"):
        with pytest.raises(KeyringTrouble, match="did not answer within"):
            tokens.get(TokenName("url", "a.example", name))

    assert time.monotonic() - begun < 0.2 * 2
    backend.released.set()


@pytest.mark.parametrize("kept", ["tokén", "two\nlines", "\x1b[2J"])
def test_what_is_no_token_is_not_quoted(tmp_path, kept):
    backend = Memory({(HF.service, "default"): kept})

    with pytest.raises(KeyringTrouble, match="is no token") as raised:
        tokens_in(tmp_path, backend).get(HF)

    assert kept not in str(raised.value)


@pytest.mark.parametrize("name", ["", "../x", "hf_" + "a" * 34, "a b", "-", "ä", "x" * 25])
def test_a_name_that_may_be_a_token_is_refused_unquoted(name):
    with pytest.raises(UsageError) as raised:
        TokenName("huggingface", "huggingface.co", name)

    assert not name or name not in str(raised.value) + raised.value.hint.replace("-", "")


def test_fingerprints_tell_tokens_apart_in_one_keyring_and_nothing_elsewhere(tmp_path):
    mine, backend = tokens_in(tmp_path, Memory()), Memory()
    theirs = tokens_in(tmp_path, backend)

    seen = [theirs.fingerprint(Secret(text)) for text in (CANARY, CANARY, WORK)]

    assert seen[0] == seen[1] == tokens_in(tmp_path, backend).fingerprint(Secret(CANARY))
    assert len({seen[0], seen[2], mine.fingerprint(Secret(CANARY))}) == 3
    assert not [mark for mark in seen if mark in CANARY + WORK]


def test_the_entrys_own_auth_comes_first_then_the_environment_the_keyring_and_files(tmp_path):
    (tmp_path / "token").write_text("from-file")
    environ = {"HF_HOME": str(tmp_path), "HF_TOKEN": "from-environment"}
    backend = Memory({(HF.service, "default"): "from-keyring", (HF.service, "work"): "named"})

    def found(auth: dict[str, object] | None = None) -> str | None:
        tokens = tokens_in(tmp_path, backend)
        return value(Credentials(environ, tokens=tokens).find("huggingface", HUB, auth=auth))

    seen = [found({"keyring": "work"}), found()]
    del environ["HF_TOKEN"]
    seen.append(found())
    backend.kept.clear()
    seen.append(found())

    order = ["named", "from-environment", "from-keyring", "from-file"]
    assert seen == [f"Bearer {one}" for one in order]


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("huggingface", "http://huggingface.co"), ("huggingface", "https://huggingface.co:8443"),
        ("huggingface", "https://huggingface.co.evil.example"), ("url", HUB), ("civitai", HUB),
    ],
)  # fmt: skip
def test_a_token_goes_to_no_other_host_port_or_source(tmp_path, source, url):
    tokens = tokens_in(tmp_path, Memory({(HF.service, "default"): CANARY}))

    found = Credentials({}, tokens=tokens).find(source, url)

    assert found is None


def test_a_file_that_is_not_trusted_gets_what_is_bound_to_a_host_and_names_nothing(tmp_path):
    local = TokenName.at("url", "http://127.0.0.1:9000")
    kept = {(HF.service, "default"): CANARY, (local.service, "default"): WORK}
    tokens = tokens_in(tmp_path, Memory(kept))
    strict = Credentials({}, tokens=tokens).standing(frozenset())

    found = [
        strict.find("huggingface", HUB),
        strict.find("url", "http://127.0.0.1:9000/f"),
        strict.find("url", "https://elsewhere.example/f"),
    ]

    assert [value(one) for one in found] == [f"Bearer {CANARY}", None, None]


def test_the_hubs_switch_against_implicit_tokens_holds_for_the_keyring(tmp_path):
    tokens = tokens_in(tmp_path, Memory({(HF.service, "default"): CANARY}))
    environ = {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}

    found = Credentials(environ, tokens=tokens).find("huggingface", HUB)

    assert found is None


def test_over_a_redirect_the_other_host_gets_nothing(tmp_path):
    def away(_: Asked) -> Reply:
        return Reply(302, headers={"Location": f"{other.url}/landed"})

    with Scripted({"/landed": Reply(body=b"ok")}) as other, Scripted({"/f": away}) as first:
        asked = TokenName.at("url", first.url)
        tokens = tokens_in(tmp_path, Memory({(asked.service, "default"): CANARY}))
        found = Credentials({}, tokens=tokens).find("url", first.url)
        with Client() as client:
            answer = client.ask(f"{first.url}/f", credential=found)

    assert answer.body == b"ok"
    assert first.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in str(other.asked)


def test_a_user_with_a_password_is_sent_as_basic(tmp_path):
    tokens = tokens_in(tmp_path)
    tokens.keep(HF, basic("ada", Secret("pass:word")))

    found = Credentials({}, tokens=tokens).find("huggingface", HUB)

    assert value(found) == "Basic YWRhOnBhc3M6d29yZA=="


@pytest.mark.parametrize("token", ["12345678", "[1]", '"quoted"', "null", "{", '{"user": 1}'])
def test_a_token_that_looks_like_json_is_a_token(tmp_path, token):
    tokens = tokens_in(tmp_path)
    tokens.keep(HF, Secret(token))

    found = Credentials({}, tokens=tokens).find("huggingface", HUB)

    assert value(found) == f"Bearer {token}"


def test_an_auth_that_names_a_token_which_is_not_there_says_how_to_store_it(tmp_path):
    credentials = Credentials({}, tokens=tokens_in(tmp_path))

    with pytest.raises(CredentialMissing, match="names the token work") as raised:
        credentials.find("huggingface", HUB, auth={"keyring": "work"})

    assert "modelbay token set huggingface/work --host https://huggingface.co:443" in (
        raised.value.hint
    )


def test_an_auth_that_names_a_token_in_a_locked_keyring_says_so(tmp_path):
    credentials = Credentials({}, tokens=tokens_in(tmp_path, Raising()))

    with pytest.raises(KeyringTrouble, match=r"token work for huggingface.co: .* is locked"):
        credentials.find("huggingface", HUB, auth={"keyring": "work"})


def test_a_keyring_is_read_once_however_many_ask(tmp_path):
    backend = Memory({(HF.service, "default"): CANARY})
    credentials = Credentials({}, tokens=tokens_in(tmp_path, backend))
    threads = [
        threading.Thread(target=credentials.find, args=("huggingface", HUB)) for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert backend.asked == 1


def test_offline_the_keyring_is_not_asked(tmp_path):
    backend = Memory({(HF.service, "default"): CANARY, (HF.service, "work"): WORK})
    tokens = Tokens({"HOME": str(tmp_path)}, offline=True, keyring=lambda: keyring_of(backend))
    credentials = Credentials({}, tokens=tokens)

    found = [
        credentials.find("huggingface", HUB),
        credentials.find("huggingface", HUB, auth={"keyring": "work"}),
    ]

    assert (found, backend.asked) == ([None, None], 0)


def test_a_gated_model_is_fetched_with_the_token_of_the_keyring(login: Login, hub: Hub):
    before = login.run("get", "demo/gated-llm", "--to", login.home / "models")
    stored = login.run("token", "set", "huggingface", stdin=CANARY + "\n")

    after = login.run("get", "demo/gated-llm", "--to", login.home / "models")

    assert (before.code, stored.code, after.code) == (3, 0, 0)
    assert not [asked for asked in hub.cdn_log if CANARY in str(asked.headers)]


def test_entries_of_one_host_use_tokens_of_different_names_and_a_lock_holds_the_names(
    login: Login, hub: Hub
):
    login.run("token", "set", "huggingface", stdin=CANARY)
    login.run("token", "set", "huggingface/work", stdin=WORK)
    file = login.write(
        "models.toml",
        '[models.llm.a]\nsource = "huggingface"\nrepo = "demo/gated-llm"\n'
        'auth = { keyring = "work" }\n'
        '[models.llm.b]\nsource = "huggingface"\nrepo = "demo/tiny-llm"\n',
    )

    said = login.run("sync", file)

    assert said.code == 0, said.err
    sent = {
        (request.headers.get("authorization"), "gated" in request.target)
        for request in hub.log
        if "/resolve/" in request.target
    }
    assert sent == {(f"Bearer {WORK}", True), (f"Bearer {CANARY}", False)}
    lock = (login.home / "models.lock.toml").read_text()
    assert 'auth = { keyring = "work" }' in " ".join(lock.split())
    assert WORK not in lock
    assert login.run("sync", login.home / "models.lock.toml").code == 0


def test_the_token_of_a_locked_keyring_is_missed_aloud_and_only_where_there_is_one(
    login: Login, tmp_path: Path
):
    fresh = Login(login.hub, tmp_path / "fresh", backend=Raising())
    login.run("token", "set", "huggingface", stdin=CANARY)
    login.backend = Raising()

    public = login.run("get", "demo/tiny-llm", "--to", login.home / "m", "--dry-run")
    hidden = login.run("show", "demo/no-such-model")
    unknown = fresh.run("show", "demo/tiny-llm")

    missed = "the token huggingface for 127.0.0.1"
    assert (public.code, hidden.code, unknown.code) == (0, 8, 0)
    assert missed in public.err + public.out
    assert missed in hidden.err
    assert "keyring" not in unknown.err + unknown.out


def test_a_lock_whose_models_token_is_locked_away_fails_with_that_as_the_next_step(login: Login):
    login.run("token", "set", "huggingface", stdin=CANARY)
    file = login.write("m.toml", '[models.llm]\na = "hf://demo/gated-llm"\n')
    locked = login.run("lock", file)
    login.backend = Raising()

    said = login.run("sync", login.home / "m.lock.toml")

    assert (locked.code, said.code) == (0, 3)
    assert "the token huggingface for 127.0.0.1" in said.err
    assert "is locked" in said.err


def test_set_says_what_was_stored_where_and_nothing_of_it(login: Login):
    said = login.run("token", "set", "huggingface/work", "--json", stdin=f"  {WORK}\n")

    document = json.loads(said.out)
    assert (said.code, document["name"], document["keyring"]) == (
        0,
        "work",
        "the keyring of a test",
    )
    assert WORK not in said.out + said.err
    assert 'auth = { keyring = "work" }' in said.err


def test_set_says_that_the_environment_comes_first(login: Login):
    login.more["HF_TOKEN"] = "hf_of_the_environment"

    said = login.run("token", "set", "huggingface", stdin=CANARY)

    assert "HF_TOKEN is set, and comes before the keyring" in said.err


@pytest.mark.parametrize("stdin", ["", "\n", f"{CANARY}\nsecond", "tokén", CANARY * 5000])
def test_what_is_no_token_on_stdin_is_refused_and_nothing_stored(login: Login, stdin):
    said = login.run("token", "set", "huggingface", stdin=stdin)

    assert said.code == 2
    assert "no token was given" in said.err
    assert CANARY not in said.err
    assert login.backend == Memory()


@pytest.mark.parametrize(
    "words",
    [
        ("set", "huggingface", CANARY), ("set", CANARY), (CANARY,), ("set", f"huggingface/{CANARY}x" * 2),
        ("set", "huggingface", f"--token={CANARY}"), ("set", f"--token={CANARY}"), ("rm", "huggingface", CANARY),
        ("set", "huggingface", "--host", f"https://me:{CANARY}@h.example"), ("test", CANARY),
    ],
)  # fmt: skip
def test_a_token_on_the_command_line_is_refused_and_not_repeated(login: Login, words):
    said = login.run("token", *words, stdin="other")

    assert said.code == 2
    assert CANARY not in said.err + said.out
    assert login.backend == Memory()


def test_a_misspelt_source_is_told_the_nearest(login: Login):
    said = login.run("token", "set", "hugingface", stdin=CANARY)

    assert said.code == 2
    assert "did you mean huggingface?" in said.err


def test_a_source_of_many_hosts_wants_one_named(login: Login):
    bare = login.run("token", "set", "url", stdin=CANARY)
    named = login.run("token", "set", "url", "--host", "models.company.com", stdin=CANARY)

    assert (bare.code, named.code) == (2, 0)
    assert "--host" in bare.err
    assert isinstance(login.backend, Memory)
    assert list(login.backend.kept) == [("modelbay:url:models.company.com", "default")]


def test_a_source_of_the_settings_is_a_name_for_its_host(login: Login):
    settings = '[sources.company]\ntype = "huggingface"\nendpoint = "https://hub.company.com"\n'
    login.more["MODELBAY_CONFIG"] = str(login.write("config.toml", settings))

    said = login.run("token", "set", "company/ci", stdin=CANARY)

    assert said.code == 0, said.err
    assert isinstance(login.backend, Memory)
    assert list(login.backend.kept) == [("modelbay:huggingface:hub.company.com", "ci")]


def test_ls_shows_names_hosts_states_and_where_each_is_kept(login: Login):
    login.run("token", "set", "huggingface", stdin=CANARY)
    login.run("token", "set", "huggingface/work", stdin=WORK)
    login.run("token", "set", "huggingface/gone", stdin=WORK)
    assert isinstance(login.backend, Memory)
    login.backend.kept = {k: v for k, v in login.backend.kept.items() if k[1] != "gone"}
    login.more["HF_TOKEN"] = "hf_of_the_environment"

    said, rows = login.run("token", "ls"), json.loads(login.run("token", "--json").out)["tokens"]

    assert [(row["name"], row["kept"], row["state"]) for row in rows] == [
        ("default", "HF_TOKEN", "ok"),
        ("default", "keyring", "ok"),
        ("gone", "keyring", "gone"),
        ("work", "keyring", "ok"),
    ]
    assert rows[1]["fingerprint"] != rows[3]["fingerprint"]
    assert len(said.out.splitlines()) == 5
    for secret in (CANARY, WORK, "hf_of_the_environment"):
        assert secret not in said.out + said.err


def test_ls_of_a_locked_keyring_lists_the_names_and_says_why(login: Login):
    login.run("token", "set", "huggingface/work", stdin=WORK)
    login.backend = Raising()

    said = login.run("token", "ls")

    assert said.code == 0
    assert "not read" in said.out
    assert "is locked" in said.err


def test_rm_takes_one_away_and_says_what_is_still_used(login: Login):
    login.run("token", "set", "huggingface", stdin=CANARY)
    login.more["HF_TOKEN"] = "hf_of_the_environment"

    done, again = login.run("token", "rm", "huggingface"), login.run("token", "rm", "huggingface")

    assert (done.code, again.code) == (0, 8)
    assert "HF_TOKEN is still used there" in done.err
    assert "modelbay token ls" in again.err


def test_test_says_whose_a_token_is_and_which_one_would_be_sent(login: Login):
    login.run("token", "set", "huggingface", stdin=CANARY)
    login.run("token", "set", "huggingface/work", stdin=WORK)

    usual, named = (
        login.run("token", "test", "huggingface"),
        login.run("token", "test", "huggingface/work", "--json"),
    )

    assert (usual.code, named.code) == (0, 0)
    assert "from the keyring, sent to http://127.0.0.1" in usual.out
    assert "it is of ada, token 'read', may read" in usual.out
    assert json.loads(named.out)["account"]["name"] == "ada-at-work"


def test_test_of_a_token_that_the_service_does_not_know_is_refused(login: Login):
    login.run("token", "set", "huggingface", stdin="hf_forged_and_unknown")

    said = login.run("token", "test", "huggingface")

    assert said.code == 3
    assert "does not know the token from the keyring" in said.err
    assert "hf_forged_and_unknown" not in said.err


def test_test_without_a_token_says_how_to_store_one(login: Login):
    said = login.run("token", "test", "huggingface/work")

    assert said.code == 3
    assert "modelbay token set huggingface/work" in said.err


def test_a_service_that_does_not_tell_whose_a_token_is_is_said(login: Login):
    with Scripted({}) as bare:
        login.run("token", "set", "huggingface", "--host", bare.url, stdin=CANARY)
        login.run("token", "set", "url", "--host", bare.url, stdin=WORK)

        said = [
            login.run("token", "test", name, "--host", bare.url) for name in ("huggingface", "url")
        ]

    assert [one.code for one in said] == [0, 0]
    assert all("does not tell whose it is" in one.out for one in said)


PLAIN = """
from keyring.backend import KeyringBackend
class PlaintextKeyring(KeyringBackend):
    priority = 9
    def get_password(self, service, username): return None
    def set_password(self, service, username, password): open("leak", "w").write(password)
    def delete_password(self, service, username): pass
"""


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("keyring.backends.null.Keyring", "throws away what it is given"),
        ("keyring.backends.fail.Keyring", "there is no keyring here"),
        ("plain.PlaintextKeyring", "a file that anybody can read"),
        ("no.such.Backend", "cannot be used (ModuleNotFoundError)"),
    ],
)
def test_a_keyring_that_does_not_encrypt_is_refused_with_the_reason(tmp_path, backend, said):
    (tmp_path / "plain.py").write_text(PLAIN)
    environ = {
        "HOME": str(tmp_path),
        "PATH": os.defpath,
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": backend,
    }

    ran = subprocess.run(
        [sys.executable, "-m", "modelbay", "token", "set", "huggingface"],
        env=environ, input=CANARY, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 3, ran.stderr
    assert said in ran.stderr
    assert "environment" in ran.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if CANARY.encode() in path.read_bytes()]


def test_without_a_session_there_is_no_keyring_and_doctor_says_so(tmp_path):
    environ = {"HOME": str(tmp_path), "PATH": os.defpath, "HF_HUB_OFFLINE": "0"}
    environ["HF_ENDPOINT"] = "http://127.0.0.1:9"

    ran = subprocess.run(
        [sys.executable, "-m", "modelbay", "doctor", "--json"],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip

    checks = {check["subject"]: check for check in json.loads(ran.stdout)["checks"]}
    assert checks["keyring"]["state"] == "note"
    assert "DBUS_SESSION_BUS_ADDRESS is not set" in checks["keyring"]["said"]
    assert "modelbay token set" in checks["Hub token"]["hint"]


def test_another_logins_environment_has_no_keyring(tmp_path):
    tokens = Tokens({"HOME": str(tmp_path), "DBUS_SESSION_BUS_ADDRESS": "unix:path=/no"})

    with pytest.raises(KeyringTrouble, match="belongs to another login"):
        tokens.get(HF)

    assert tokens.standing(HF) is None


LOADED = """
import sys
from modelbay.cli import run
import os
code = run(sys.argv[1:], environ=os.environ)
print(code, "keyring" in sys.modules)
"""


@pytest.mark.parametrize(
    ("more", "seen"),
    [({}, ["8", "True"]), ({"HF_HUB_OFFLINE": "1"}, ["6", "False"])],
    ids=["online", "offline"],
)
def test_the_keyring_is_loaded_when_a_host_is_asked_and_not_offline(tmp_path, more, seen):
    environ = {"HOME": str(tmp_path), "PATH": os.defpath}
    environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

    with Scripted() as empty:
        environ["HF_ENDPOINT"] = empty.url
        ran = subprocess.run(
            [sys.executable, "-P", "-c", LOADED, "show", "org/model"],
            env=environ | more, capture_output=True, text=True, check=True,
        )  # fmt: skip

    assert ran.stdout.split() == seen


def typed_at_the_prompt(folder: Path, keys: bytes) -> tuple[int, bytes, dict[str, str]]:
    """What `token set` ends with, everything that the terminal showed, and what was kept."""
    ours, theirs = pty.openpty()
    keyring = folder / "keyring.json"
    keyring.write_text("{}")
    argv = [sys.executable, "-m", "tests.canaries", str(keyring), "token", "set", "huggingface"]
    environ = {"HOME": str(folder), "PATH": os.defpath, "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        argv, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # Linux says EIO when the other side is closed
            while got := os.read(ours, 65536):
                shown += got
                if b"token for huggingface.co: " in shown and keys:
                    os.write(ours, keys)
                    keys = b""
    os.close(ours)
    return process.returncode, shown, json.loads(keyring.read_text())


def test_what_is_typed_at_the_prompt_is_stored_and_not_shown(tmp_path):
    code, shown, kept = typed_at_the_prompt(tmp_path, f"{CANARY}\n".encode())

    assert code == 0, shown
    assert CANARY.encode() not in shown
    assert kept == {f"{HF.service} default": CANARY}


def test_an_end_of_input_at_the_prompt_stores_nothing(tmp_path):
    code, shown, kept = typed_at_the_prompt(tmp_path, b"\x04")

    assert (code, kept) == (2, {})
    assert b"no token was given" in shown
