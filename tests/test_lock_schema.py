"""What a lock may say: written, read again, and refused at its line when it is no lock."""

import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbay.digest import Digest
from modelbay.errors import FormatError
from modelbay.provision import (
    Lock,
    LockedArchive,
    LockedModel,
    Place,
    parse_lock,
    read_lock,
    written,
)
from modelbay.provision.lockcache import MOST, SMALLEST, cached
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import Licence, ModelFile

HOSTILE = st.text(
    st.sampled_from("\"\\'\n\r\t\0\x1b\x7f\x85\u2028\u202e\ufeff😀é#[]={},. ")
    | st.characters(exclude_categories=()),
    max_size=12,
)
NAMES = st.text("abcXYZ é-_.0😀", min_size=1, max_size=8).map(lambda text: f"n{text}n")
COMMIT = "0123456789abcdef" * 2 + "01234567"
LOCK = "a.lock.toml"


@st.composite
def files(draw: st.DrawFn, prefix: str) -> ModelFile:
    name = f"{prefix}/{draw(NAMES)}"
    hexes = draw(st.binary(min_size=32, max_size=32)).hex()
    digests = [Digest.sha256(hexes)]
    if draw(st.booleans()):
        digests.append(Digest("git-sha1", hexes[:40]))
    if draw(st.booleans()):
        digests.append(Digest("md5", hexes[:32]))
    urls = draw(st.lists(st.sampled_from(["https://a.example/x", "http://b.example/y?z=1"])))
    return ModelFile(
        SafeRelPath.parse(name),
        draw(st.integers(0, 1 << 50)),
        tuple(digests),
        draw(st.booleans()),
        urls=tuple(urls),
    )


MORE = st.dictionaries(
    NAMES.map(lambda name: f"x-{name}"),
    HOSTILE
    | st.integers(-(1 << 60), 1 << 60)
    | st.booleans()
    | st.lists(HOSTILE, max_size=2)
    | st.dictionaries(HOSTILE, HOSTILE, max_size=2),
    max_size=2,
)


@st.composite
def models(draw: st.DrawFn, number: int) -> LockedModel:
    count = draw(st.integers(0, 3))
    found = [draw(files(f"{one}")) for one in range(count)]
    archives = draw(st.lists(st.builds(LockedArchive, files("archive"), MORE), max_size=1))
    members: dict[str, str] = {file.path: archives[0].file.path for file in found if archives}
    names: dict[str, SafeRelPath] = {
        file.path: SafeRelPath.parse(f"name-{n}") for n, file in enumerate(found)
    }
    return LockedModel(
        f"llm/m{number}{draw(NAMES)}",
        draw(st.sampled_from(["huggingface", "url", "mock", "git-lfs"])),
        draw(st.dictionaries(HOSTILE.filter(lambda key: key not in {"source", "hash"}), HOSTILE)),
        draw(st.dictionaries(HOSTILE, HOSTILE, max_size=3)),
        draw(
            st.sampled_from(
                [
                    Place("hf-cache", ref="main"),
                    Place("dir", dir="a/b"),
                    Place("folders", dir="VAE", folders="sdnext", category="vae"),
                ]
            )
        ),
        tuple(found),
        names if draw(st.booleans()) else {},
        Licence(draw(st.none() | HOSTILE), draw(st.none() | HOSTILE)),
        draw(st.sampled_from(["no", "auto", "manual"])),
        draw(st.sampled_from([{}, {"token_env": "A"}, {"header_env": {"X": "Y"}}])),
        tuple(archives),
        members,
        draw(MORE),
        {file.path: more for file in found if (more := draw(MORE))},
    )


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    found = [draw(models(number)) for number in range(draw(st.integers(0, 3)))]
    return Lock(
        tuple(found),
        draw(st.none() | st.lists(HOSTILE, max_size=2).map(tuple)),
        draw(st.sampled_from([None, "sha256:" + "0" * 64])),
        draw(st.integers(0, 5)),
        more=draw(MORE),
    )


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(locks())
def test_a_lock_that_is_read_and_written_again_is_the_same_bytes_and_all_of_it_can_be_seen(
    lock: Lock,
):
    text = written(lock)
    read = parse_lock(text.decode(), LOCK)

    assert written(read) == text
    assert parse_lock(written(read).decode(), LOCK) == read
    assert all(line.isprintable() for line in text.decode().removesuffix("\n").split("\n"))


def model(number: int = 0, **more: Any) -> LockedModel:
    digest = Digest.sha256(f"{number:064x}")
    file = ModelFile(SafeRelPath("model.safetensors"), 7, (digest,), lfs=True)
    return LockedModel(
        f"llm/model-{number}",
        "huggingface",
        {"repo": "org/name", "revision": "main"},
        {"endpoint": "https://huggingface.co", "repo": "org/name", "commit": COMMIT},
        Place("hf-cache", ref="main"),
        (file,),
        licence=Licence("MIT", "mit"),
        **more,
    )


GOOD = written(Lock((model(), model(1)), ("mit",), "sha256:" + "1" * 64)).decode()


def refused(text: str) -> FormatError:
    with pytest.raises(FormatError) as caught:
        parse_lock(text, LOCK)
    return caught.value


def place_of(error: FormatError) -> tuple[int, int]:
    name, line, column, _ = str(error).split(":", 3)
    assert name == LOCK
    return int(line), int(column)


def test_a_lock_of_a_newer_revision_keeps_its_unknown_keys_at_their_tables():
    newer = (
        GOOD.replace(
            "revision = 0", 'revision = 7\noptions = { min-age = "P3D", since = 2026-11-21 }'
        )
        .replace('gated = "no"', 'gated = "no"\ntool = { x = [1, 2.5] }')
        .replace('"mit", verdict', '"mit", source = "tags", verdict')
        .replace("  lfs = true", '  lfs = true\n  role = "weights"')
        .replace('  hashes = { sha256 = "', '  hashes = { crc32 = "00", sha256 = "')
    )
    once = written(parse_lock(newer, LOCK)).decode()

    assert "revision = 7\n" in once
    assert 'options = { min-age = "P3D", since = 2026-11-21 }' in once
    assert once.count("tool = { x = [1, 2.5] }") == 2
    assert once.count('role = "weights"') == 2
    assert once.count('crc32 = "00"') == 2
    assert once.count('source = "tags"') == 2
    assert written(parse_lock(once, LOCK)).decode() == once


def test_a_lock_of_a_newer_version_is_refused_with_both_numbers():
    error = refused(GOOD.replace("lock-version = 1", "lock-version = 2"))

    assert str(error) == f"{LOCK}:1:1: it is a lock of version 2, this modelbay reads 1"


def test_an_archive_its_members_and_alternates_are_read_and_written():
    archive = ModelFile(
        SafeRelPath("model.tar.gz"),
        9,
        (Digest.sha256("a" * 64),),
        urls=("https://mirror.example/model.tar.gz",),
    )
    packed = model(archives=(LockedArchive(archive),), members={"model.safetensors": archive.path})
    text = written(Lock((packed,))).decode()

    assert '  from = "model.tar.gz"' in text
    assert "  [[model.archive]]" in text
    assert parse_lock(text, LOCK).models[0].archives[0].file == archive


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (lambda t: t.replace("size = 7\nlicense", "size = 8\nlicense", 1), 10, "size is 8, that of its files is 7"),
        (lambda t: t.replace("  size = 7", "  size = 8", 1), 9, "tree-hash is"),
        (lambda t: t.replace("  size = 7", '  size = "7"', 1), 19, "file.size is '7'"),
        (lambda t: t.replace("  size = 7", "  size = -7", 1), 19, "file.size is -7"),
        (lambda t: t.replace('gated = "no"', 'gated = "maybe"', 1), 12, "gated is 'maybe'"),
        (lambda t: t.replace("llm/model-1", "LLM/MODEL-0"), 24, "LLM/MODEL-0: id is the same name as the model llm/model-0"),
        (lambda t: t.replace("llm/model-1", "../x"), 24, "../x"),
        (lambda t: t.replace("huggingface = {", "url = {", 1), 14, "is url, exactly one table huggingface"),
        (lambda t: t.replace("huggingface = {", 'url = { url = "https://a.example/x" }\nhuggingface = {', 1), 14, "url, exactly one table huggingface"),
        (lambda t: t.replace("huggingface = {", "somewhere = {", 1), 7, "has none, exactly one table huggingface"),
        (lambda t: t.replace('  path = "m', '  path = "../m', 1), 18, "'../model.safetensors'"),
        (lambda t: t.replace("hashes = { sha256", "hashes = { md5", 1), 20, "a sha256 was expected"),
        (lambda t: t.replace("  lfs = true", '  urls = ["https://u:p@a.example/x"]', 1), 21, "user name or password"),
        (lambda t: t.replace("  lfs = true", '  urls = ["https://a.example/x?X-Amz-Signature=1"]', 1), 21, "credential"),
        (lambda t: t.replace("  lfs = true", '  urls = ["file:///etc/passwd"]', 1), 21, "no web address"),
        (lambda t: t.replace("  lfs = true", '  from = "x.tar"', 1), 21, "none of its archives"),
        (lambda t: t.replace('layout = "hf-cache"', 'layout = "cloud"', 1), 15, "place.layout is 'cloud'"),
        (lambda t: t.replace("place = {", 'auth = { token_file = "/x" }\nplace = {', 1), 15, "auth.token_file is nothing that a lock may say"),
        (lambda t: t.replace("place = {", "auth = { token_env = 7 }\nplace = {", 1), 15, "auth.token_env"),
        (lambda t: t.replace('manifest-hash = "sha256:', 'manifest-hash = "sha256:x', 1), 4, "sha256 digest"),
        (lambda t: t.replace('["mit"]', '"mit"', 1), 5, "license_allow is 'mit', a list of texts"),
        (lambda t: t.replace('verdict = "allow"', 'verdict = "who knows"', 1), 11, "license.verdict"),
        (lambda t: t.replace('original = { source = "huggingface", ', "original = { ", 1), 13, "original.source is missing"),
        (lambda t: t.replace('revision = "main"', 'hash = "sha512:00"', 1), 13, "sha512"),
        (lambda t: t.replace("[[model]]", "[model]", 1), 23, "overwrite"),
        (lambda t: t.replace('gated = "no"', 'gated = "no"\ngated = "no"', 1), 13, "overwrite"),
        (lambda t: t.replace("[[model]]", "<<<<<<< ours\n[[model]]", 1), 7, "merge that was not finished"),
        (lambda t: t.replace("lock-version = 1\n", ""), 1, "it has no lock-version"),
        (lambda t: t[: len(t) // 2], 0, ""),
        (lambda t: "", 1, "it has no lock-version"),
    ],
)  # fmt: skip
def test_a_lock_that_cannot_be_is_refused_at_its_line(
    change: Callable[[str], str], line: int, said: str
):
    changed = change(GOOD)
    assert changed != GOOD
    error = refused(changed)

    assert said in str(error)
    assert error.hint
    found, column = place_of(error)
    assert column >= 1
    assert line in {0, found}


def test_bytes_that_are_no_text_are_refused_at_their_line(tmp_path: Path):
    path = tmp_path / LOCK
    path.write_bytes(GOOD.encode().replace(b"org/name", b"org/\xff\xfe", 1))

    with pytest.raises(FormatError, match=r"a\.lock\.toml:13:\d+: a byte that is not UTF-8"):
        read_lock(path)


def mutations(text: str, count: int) -> Iterator[str]:
    dice = random.Random(3)
    alphabet = string.printable + "é\0\u2028"
    lines = text.split("\n")
    for _ in range(count):
        at = dice.randrange(len(text))
        match dice.randrange(6):
            case 0:
                yield text[:at] + dice.choice(alphabet) + text[at + 1 :]
            case 1:
                yield text[:at] + text[at + dice.randrange(1, 30) :]
            case 2:
                yield text[:at]
            case 3:
                yield text[:at] + dice.choice(alphabet) + text[at:]
            case 4:
                swapped = lines.copy()
                one, other = dice.randrange(len(lines)), dice.randrange(len(lines))
                swapped[one], swapped[other] = swapped[other], swapped[one]
                yield "\n".join(swapped)
            case _:
                number = dice.randrange(len(lines))
                yield "\n".join([*lines[:number], lines[number], *lines[number:]])


def test_a_thousand_changes_of_a_lock_are_each_refused_or_read_as_a_whole_lock():
    taken = 0
    for text in mutations(GOOD, 1000):
        try:
            read = parse_lock(text, LOCK)
        except FormatError as error:
            place_of(error)
            continue
        taken += 1
        assert parse_lock(written(read).decode(), LOCK) == read
        assert all(one.tree_hash in text for one in read.models)

    print(f"{taken} of 1000 were read as locks of another name or place")
    assert taken < 500


def large(number: int) -> bytes:
    found = tuple(model(one) for one in range(number, number + 160))
    return written(Lock(found))


def test_a_large_lock_is_the_same_from_its_parsed_form(tmp_path: Path):
    raw = large(0)
    assert len(raw) >= SMALLEST
    first = cached(raw, LOCK, tmp_path / "locks")
    (kept,) = (tmp_path / "locks").iterdir()
    again = cached(raw, LOCK, tmp_path / "locks")

    assert again == first == parse_lock(raw.decode(), LOCK)
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("spoil", [b"", b"{}", b"\xff" * 70, None])
def test_a_parsed_form_that_is_broken_is_not_used(tmp_path: Path, spoil: bytes | None):
    raw = large(0)
    first = cached(raw, LOCK, tmp_path / "locks")
    (kept,) = (tmp_path / "locks").iterdir()
    if spoil is None:
        kept.write_bytes(kept.read_bytes().replace(b"org/name", b"org/evil"))
    else:
        kept.write_bytes(spoil)

    assert cached(raw, LOCK, tmp_path / "locks") == first


def test_a_folder_that_others_may_look_into_is_not_used(tmp_path: Path):
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o755)
    cached(large(0), LOCK, folder)

    assert not list(folder.iterdir())


def test_a_lock_that_contradicts_itself_is_refused_from_its_parsed_form_too(tmp_path: Path):
    raw = large(0)
    cached(raw, LOCK, tmp_path / "locks")
    changed = raw.replace(b"size = 7", b"size = 8", 1)

    for _ in range(2):
        with pytest.raises(FormatError, match="size is 8"):
            cached(changed, LOCK, tmp_path / "locks")


def test_the_parsed_forms_of_sixteen_locks_are_kept(tmp_path: Path):
    for number in range(MOST + 3):
        cached(large(number), LOCK, tmp_path / "locks")

    assert len(list((tmp_path / "locks").iterdir())) == MOST


def test_a_small_lock_leaves_nothing_behind(tmp_path: Path):
    cached(GOOD.encode(), LOCK, tmp_path / "locks")

    assert not (tmp_path / "locks").exists()
