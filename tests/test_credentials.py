import os

import pytest

from modelbay.credentials import Credentials, variable_for
from modelbay.errors import CredentialMissing, FormatError, ModelbayError, UsageError
from modelbay.http import Client
from modelbay.location import Credential
from tests.scripted import Asked, Reply, Scripted

HUB = "https://huggingface.co"
HUB_ORIGIN = frozenset({"https://huggingface.co:443"})


def value(found: Credential | None) -> str | None:
    return None if found is None else found.value.reveal()


def test_the_hubs_token_is_bound_to_the_public_hub():
    found = Credentials({"HF_TOKEN": "hf_abc\n"}).find("huggingface", HUB)

    assert found is not None
    assert (found.header, value(found), found.label) == (
        "Authorization",
        "Bearer hf_abc",
        "HF_TOKEN",
    )
    assert found.origins == HUB_ORIGIN


@pytest.mark.parametrize(
    "url",
    [
        "https://mirror.example", "http://huggingface.co", "https://huggingface.co:8443",
        "https://huggingface.co.evil.example", "https://evil.example/huggingface.co",
    ],
)  # fmt: skip
def test_another_host_gets_no_token_of_the_hub(url):
    assert Credentials({"HF_TOKEN": "hf_abc"}).find("huggingface", url) is None


def test_another_source_gets_no_token_of_the_hub():
    assert Credentials({"HF_TOKEN": "hf_abc"}).find("url", HUB) is None


def test_with_hf_endpoint_the_token_goes_there_and_not_to_the_public_hub():
    credentials = Credentials({"HF_TOKEN": "bk_1", "HF_ENDPOINT": "https://packages.example/o/r"})

    assert value(credentials.find("huggingface", "https://packages.example/o/r")) == "Bearer bk_1"
    assert credentials.find("huggingface", HUB) is None


def test_an_endpoint_without_scheme_is_named():
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        Credentials({"HF_ENDPOINT": "hf-mirror.com"}).find("huggingface", HUB)


def test_the_environment_comes_before_the_file_and_the_new_name_before_the_old(tmp_path):
    (tmp_path / "token").write_text("from-file")
    environ = {"HF_HOME": str(tmp_path), "HUGGING_FACE_HUB_TOKEN": "old", "HF_TOKEN": "new"}

    seen = []
    for gone in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HOME"):
        seen.append(value(Credentials(environ).find("huggingface", HUB)))
        del environ[gone]

    assert seen == ["Bearer new", "Bearer old", "Bearer from-file"]
    assert Credentials(environ).find("huggingface", HUB) is None


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"HF_TOKEN_PATH": "{root}/t"}, "t"),
        ({"HF_HOME": "{root}/home"}, "home/token"),
        ({"HF_HOME": "$BASE/home", "BASE": "{root}"}, "home/token"),
        ({"HF_HOME": "~/hf", "HOME": "{root}"}, "hf/token"),
        ({"XDG_CACHE_HOME": "{root}/xdg"}, "xdg/huggingface/token"),
        ({"HOME": "{root}"}, ".cache/huggingface/token"),
        ({"HF_TOKEN_FILE": "{root}/secret"}, "secret"),
    ],
)
def test_a_token_file_is_found_where_the_hubs_own_tools_keep_it(tmp_path, environ, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("  hf_file \n")
    environ = {name: text.format(root=tmp_path) for name, text in environ.items()}

    assert value(Credentials(environ).find("huggingface", HUB)) == "Bearer hf_file"


@pytest.mark.parametrize("switch", ["1", "ON", "true", "Yes"])
def test_no_token_goes_by_itself_when_the_user_switched_that_off(switch):
    credentials = Credentials({"HF_TOKEN": "hf_abc", "HF_HUB_DISABLE_IMPLICIT_TOKEN": switch})

    assert credentials.find("huggingface", HUB) is None


def test_an_empty_variable_is_no_token():
    assert Credentials({"HF_TOKEN": " "}).find("huggingface", HUB) is None


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://models.company.com/x", "MODELBAY_TOKEN_MODELS_COMPANY_COM"),
        ("http://127.0.0.1:8080", "MODELBAY_TOKEN_127_0_0_1"),
        ("https://hf-mirror.com", "MODELBAY_TOKEN_HF__MIRROR_COM"),
    ],
)
def test_a_hosts_own_variable_is_found(url, variable):
    found = Credentials({variable: "t"}).find("url", url)

    assert variable_for(url) == variable
    assert value(found) == "Bearer t"


def test_a_look_alike_host_does_not_get_the_token_of_the_real_one():
    credentials = Credentials({"MODELBAY_TOKEN_MODELS_COMPANY_COM": "t"})

    for url in (
        "https://models-company.com",
        "https://models_company.com",
        "https://models-company-com",
    ):
        assert credentials.find("url", url) is None


def test_a_host_the_user_named_himself_may_be_spelt_loosely():
    credentials = Credentials({"MODELBAY_TOKEN_HF_MIRROR_COM": "t"}, named=["hf-mirror.com"])

    assert value(credentials.find("url", "https://hf-mirror.com/f")) == "Bearer t"


def test_a_host_counts_as_named_from_when_the_user_named_it():
    credentials = Credentials({"MODELBAY_TOKEN_HF_MIRROR_COM": "t"})
    before = credentials.find("url", "https://hf-mirror.com/file")

    credentials.note_named("https://HF-mirror.com:8443/other")

    assert before is None
    assert value(credentials.find("url", "https://hf-mirror.com/file")) == "Bearer t"


def test_the_hint_names_the_variable_that_would_be_read():
    credentials = Credentials({})

    assert credentials.variable("huggingface", HUB) == "HF_TOKEN"
    assert credentials.variable("huggingface", "https://a.b") == "MODELBAY_TOKEN_A_B"


def test_an_entrys_own_auth_comes_first_and_is_bound_to_its_host(tmp_path):
    (tmp_path / "t").write_text("filed")
    credentials = Credentials({"HF_TOKEN": "hf_abc", "MINE": "mine", "WHOLE": "Basic Zm9v"})

    env = credentials.find("huggingface", "https://reg.example/x", auth={"token_env": "MINE"})
    file = credentials.owned({"token_file": str(tmp_path / "t")}).find("url", "https://reg.example")
    header = credentials.find(
        "url", "https://reg.example", auth={"header_env": {"X-Auth": "WHOLE"}}
    )

    assert (value(env), value(file)) == ("Bearer mine", "Bearer filed")
    assert header is not None
    assert (header.header, value(header)) == ("X-Auth", "Basic Zm9v")
    assert env is not None
    assert env.origins == frozenset({"https://reg.example:443"})


@pytest.mark.parametrize(
    "auth",
    [
        {"token": "literal-secret"}, {"token_env": 3}, {"token_env": "A", "token_file": "b"},
        {"header_env": {}}, {"header_env": {"X": 1}}, {"header_env": {"a b": "V"}}, {"header_env": "V"},
    ],
)  # fmt: skip
def test_an_auth_that_cannot_be_read_is_refused_without_its_values(auth):
    with pytest.raises(FormatError) as raised:
        Credentials({"A": "x", "V": "x"}).find("url", HUB, auth=auth)

    assert "literal-secret" not in str(raised.value)


def test_an_auth_that_names_an_unset_variable_says_which():
    with pytest.raises(CredentialMissing, match="NOT_THERE"):
        Credentials({}).find("url", HUB, auth={"token_env": "NOT_THERE"})


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"first-line\nsecond-line", b"\x00\xff\xfebinary", "tokén".encode(), b"x" * 70_000, b"a\x1b[2J"],
)  # fmt: skip
def test_a_token_file_with_odd_content_is_named_and_never_quoted(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)

    with pytest.raises(CredentialMissing) as raised:
        Credentials({"HF_TOKEN_FILE": str(path)}).find("huggingface", HUB)

    said = str(raised.value) + raised.value.hint
    assert str(path) in said
    assert "HF_TOKEN_FILE" in said
    assert not [
        word for word in ("first-line", "binary", "tok\xe9n", "xxxx", "[2J") if word in said
    ]


def test_a_named_file_that_is_absent_is_said_and_the_default_one_is_not_missed(tmp_path):
    with pytest.raises(CredentialMissing, match="HF_TOKEN_FILE"):
        Credentials({"HF_TOKEN_FILE": str(tmp_path / "no")}).find("huggingface", HUB)

    assert Credentials({"HOME": str(tmp_path)}).find("huggingface", HUB) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path):
    (tmp_path / "t").write_text("hf_abc")
    (tmp_path / "t").chmod(0)

    with pytest.raises(CredentialMissing, match="could not be read"):
        Credentials({"HF_TOKEN_FILE": str(tmp_path / "t")}).find("huggingface", HUB)


def test_a_variable_with_odd_content_is_named_and_never_quoted():
    with pytest.raises(ModelbayError) as raised:
        Credentials({"HF_TOKEN": "hf_abc\nX-Evil: 1"}).find("huggingface", HUB)

    assert "HF_TOKEN" in str(raised.value)
    assert "hf_abc" not in str(raised.value) + raised.value.hint


def test_over_a_redirect_the_other_host_gets_nothing():
    def away(_: Asked) -> Reply:
        return Reply(302, headers={"Location": f"{other.url}/landed"})

    with Scripted({"/landed": Reply(body=b"ok")}) as other, Scripted({"/f": away}) as first:
        found = Credentials({"MINE": "secret"}).find("url", first.url, auth={"token_env": "MINE"})
        with Client() as client:
            answer = client.ask(f"{first.url}/f", credential=found)

    assert answer.body == b"ok"
    assert first.asked[0].headers["authorization"] == "Bearer secret"
    assert "authorization" not in other.asked[0].headers
