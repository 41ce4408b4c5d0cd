from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelbay.credentials import Credentials
from modelbay.errors import ModelbayError, RefError
from modelbay.http import Client
from modelbay.refs import ModelRef, parse
from modelbay.sources import all_sources
from modelbay.sources.base import Means, Source

MIRROR = "https://packages.example.com/o/r/huggingface"
COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"


@cache
def forms(endpoint: str | None = None) -> list[Source]:
    homes = {"huggingface": endpoint}
    sources = all_sources(lambda name: Means(Client(), Credentials({}), homes.get(name)))
    return [sources[name] for name in ("huggingface", "mock", "url")]


def canonical(text: str, endpoint: str | None = None) -> str:
    return str(parse(text, forms(endpoint)))


def outcome(text: str) -> ModelRef | ModelbayError:
    try:
        return parse(text, forms())
    except ModelbayError as error:
        return error


NAME = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_]|[.-](?=[A-Za-z0-9_])){0,20}", fullmatch=True)
PLAIN = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters=""), min_size=1, max_size=12
).filter(lambda part: part.isprintable() and part not in {".", ".."})
PATH = st.lists(PLAIN.filter(lambda part: "/" not in part), min_size=1, max_size=3).map("/".join)


@given(
    type_=st.sampled_from(["", "datasets/", "spaces/"]),
    org=NAME.filter(lambda org: org not in {"datasets", "spaces"}),
    name=NAME.filter(lambda name: not name.endswith(".git")),
    revision=st.none() | PLAIN,
    path=st.none() | PATH,
    endpoint=st.sampled_from([None, MIRROR, "http://127.0.0.1:8123"]),
)
def test_a_hub_ref_parses_back_to_itself(type_, org, name, revision, path, endpoint):
    options = () if endpoint is None else (("endpoint", endpoint),)
    ref = ModelRef("huggingface", "hf", f"{type_}{org}/{name}", revision, path, options)

    assert parse(str(ref), forms()) == ref


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40))
def test_an_address_parses_back_to_itself_whatever_follows_its_host(rest):
    result = outcome(f"https://host.example:8443/{rest}")
    assume(isinstance(result, ModelRef))

    assert parse(str(result), forms()) == result
    assert str(result).isascii()


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_hint(text):
    result = outcome(text)

    if isinstance(result, ModelbayError):
        assert str(result).isprintable()
        assert result.hint
    else:
        assert parse(str(result), forms()) == result


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("org/name", "hf://org/name"),
        ("gpt2", "hf://gpt2"),
        ("hf:org/name", "hf://org/name"),
        ("HF://Qwen/Qwen3-0.6B", "hf://Qwen/Qwen3-0.6B"),
        ("org/name@v1.0", "hf://org/name@v1.0"),
        ("org/name/sub/f.bin", "hf://org/name/sub/f.bin"),
        ("hf://org/name@refs%2Fpr%2F1/sub/f.bin", "hf://org/name@refs%2Fpr%2F1/sub/f.bin"),
        ("org/name@feature/x", "hf://org/name@feature/x"),
        ("hf://org/name/image@2x.png", "hf://org/name/image%402x.png"),
        ("hf://org/name@main/", "hf://org/name@main"),
        ("hf://datasets/org/name@main/data/a.parquet", "hf://datasets/org/name@main/data/a.parquet"),
        ("hf://datasets/squad", "hf://datasets/squad"),
        ("hf://spaces/org/name", "hf://spaces/org/name"),
        ("hf://org/name?endpoint=https://HuggingFace.co/", "hf://org/name"),
        (f"hf://org/name?endpoint={MIRROR}/", f"hf://org/name?endpoint={MIRROR}"),
        ("https://huggingface.co/org/name", "hf://org/name"),
        ("https://huggingface.co/gpt2/tree/main", "hf://gpt2@main"),
        ("https://huggingface.co/gpt2/blob/main/config.json", "hf://gpt2@main/config.json"),
        ("huggingface.co/org/name/", "hf://org/name"),
        ("hf.co/org/name", "hf://org/name"),
        ("https://hf.co/org/name/resolve/main/a%20b.bin?download=true", "hf://org/name@main/a%20b.bin"),
        ("https://huggingface.co/org/name/blob/refs%2Fpr%2F1/x/y.json", "hf://org/name@refs%2Fpr%2F1/x/y.json"),
        ("https://huggingface.co/org/name/tree/feature/x", "hf://org/name@feature/x"),
        (f"https://huggingface.co/org/name/commit/{COMMIT}", f"hf://org/name@{COMMIT}"),
        ("https://huggingface.co/org/name/discussions/3", "hf://org/name"),
        ("https://huggingface.co/datasets/org/name/viewer/default/train", "hf://datasets/org/name"),
        ("HTTPS://Host.Example:443/File.bin", "https://host.example/File.bin"),
        ("http://host.example:80", "http://host.example/"),
        ("https://host.example/a b.bin?x=1&y=a+b", "https://host.example/a%20b.bin?x=1&y=a+b"),
        ("https://bücher.example/ü.bin", "https://xn--bcher-kva.example/%C3%BC.bin"),
        ("https://host.example/f.bin#readme", "https://host.example/f.bin"),
        ("http://[::1]:8000/f.bin", "http://[::1]:8000/f.bin"),
        ("url:https://huggingface.co/org/name", "url:https://huggingface.co/org/name"),
        ("url:https://host.example/f.bin", "https://host.example/f.bin"),
        ("https://huggingface.co/docs/hub", "https://huggingface.co/docs/hub"),
        ("mock://org/model", "mock://org/model"),
        (f"mock:org/model@{COMMIT}/config.json", f"mock://org/model@{COMMIT}/config.json"),
        ("mock://o/m?files=a,b/c&content=random:10:7", "mock://o/m?content=random:10:7&files=a,b/c"),
    ],
)  # fmt: skip
def test_what_is_pasted_becomes_the_canonical_ref(pasted, expected):
    assert canonical(pasted) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("org/name", f"hf://org/name?endpoint={MIRROR}"),
        ("hf://org/name@main", f"hf://org/name@main?endpoint={MIRROR}"),
        (f"{MIRROR}/org/name/resolve/main/a/b.bin", f"hf://org/name@main/a/b.bin?endpoint={MIRROR}"),
        (f"{MIRROR}/datasets/org/name", f"hf://datasets/org/name?endpoint={MIRROR}"),
        ("https://huggingface.co/org/name", "hf://org/name?endpoint=https://huggingface.co"),
        ("https://packages.example.com/other/f.bin", "https://packages.example.com/other/f.bin"),
    ],
)  # fmt: skip
def test_with_an_endpoint_configured_every_hub_ref_says_which_it_means(pasted, expected):
    assert canonical(pasted, MIRROR) == expected
    assert canonical(expected, MIRROR) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "hf://", "hf://org/na--me", "hf://../etc", "hf://org/..", "hf://org/name@..", "hf://org/name@",
        "hf://org/name@main/../x", "hf://org/name@main//x", "hf://org/name@%00", "hf://org/name@%FF",
        "hf://org/name?revision=x", "hf://org/name?endpoint=ftp://x", "hf://org/name?endpoint=https://u:p@x",
        "hf.co/org/name:Q4_K_M", "./local", "/abs/path", "~/x", "a\\b", "nosuch:thing", "org/name\x1b[2J",
        "https://user:pass@host/f", "url:https://user:pass@host/f", "https://host/f?token=abc", "https://",
        "https://host/f?X-Amz-Signature=abc", "https://host/f?sig=abc", "url:https://host/f?api_key=abc",
        f"https://host/f#sha256={'0' * 64}", "mock://org", "mock://o/m?content=random", "mock://o/m?x=1",
        "x" * 5000, "https://exa\u202emple.com/x", "https://host:99999/x",
    ],
)  # fmt: skip
def test_a_text_that_names_nothing_is_refused_in_one_line(text):
    with pytest.raises(ModelbayError) as raised:
        parse(text, forms())

    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "text",
    ["https://me:hunter2@host/f", "https://host/f?token=hunter2", "url:https://me:hunter2@h/f"],
)
def test_a_credential_in_a_ref_is_refused_and_not_repeated(text):
    with pytest.raises(RefError) as raised:
        parse(text, forms())

    assert "hunter2" not in str(raised.value) + raised.value.hint
    assert "MODELBAY_TOKEN" in raised.value.hint


def test_a_slash_hidden_in_a_path_part_is_refused():
    with pytest.raises(RefError):
        parse("hf://org/name@main/a%2F..%2Fb", forms())


def test_the_hint_of_an_unknown_scheme_lists_the_known_ones():
    with pytest.raises(RefError) as raised:
        parse("ftp://host/file", forms())

    assert "hf:" in raised.value.hint


@pytest.mark.parametrize(
    ("source", "keys", "expected"),
    [
        ("huggingface", {"repo": "org/name", "revision": "main"}, "hf://org/name@main"),
        ("huggingface", {"repo": "datasets/org/name"}, "hf://datasets/org/name"),
        ("huggingface", {"repo": "o/n", "endpoint": "http://127.0.0.1:1/"}, "hf://o/n?endpoint=http://127.0.0.1:1"),
        ("url", {"url": "https://host/f.bin", "filename": "x"}, "https://host/f.bin"),
        ("mock", {"org": "o", "model": "m", "files": ["a", "b"]}, "mock://o/m?files=a,b"),
        ("mock", {"commit_sha": "abc123"}, "mock://test-org/test-model@abc123"),
        ("mock", {"content": "random:10:7"}, "mock://test-org/test-model?content=random:10:7"),
    ],
)  # fmt: skip
def test_keys_of_an_entry_become_a_ref(source, keys, expected):
    made = {form.name: form for form in forms()}[source].ref_of(keys)

    assert str(made) == expected


@pytest.mark.parametrize(
    ("source", "keys", "named"),
    [
        ("huggingface", {}, "repo"),
        ("huggingface", {"repo": 3}, "repo"),
        ("url", {}, "url"),
        ("url", {"url": "file:///etc/passwd"}, "url"),
        ("url", {"url": "https://host/f?token=abc"}, "token"),
        ("mock", {"files": "a"}, "files"),
    ],
)
def test_a_wrong_key_is_named(source, keys, named):
    with pytest.raises(ModelbayError, match=named):
        {form.name: form for form in forms()}[source].ref_of(keys)
