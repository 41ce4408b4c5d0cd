import hashlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.credentials import Credentials
from modelbay.errors import FileNotFound, RevisionNotFound, UnsafeName, UsageError
from modelbay.http import Client
from modelbay.location import Stream
from modelbay.refs import parse
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Query, Snapshot
from modelbay.sources.base import Means, Source
from modelbay.sources.mock import Mock
from tests.syncing import Machine

SHA = "0123456789abcdef0123456789abcdef01234567"


def source() -> Mock:
    return Mock(Means(Client(), Credentials({})))


def resolved(text: str) -> Snapshot:
    return source().resolve(parse(text, [source()]))


def read(snapshot: Snapshot, file: ModelFile, offset: int = 0) -> bytes:
    return b"".join(source().locate(snapshot, file).open(offset))


def test_it_is_a_source():
    made: Source = source()

    assert made.recognise("org/name") is None


def test_a_mock_model_is_the_same_every_time_and_every_claim_holds():
    one, other = resolved("mock://org/model"), resolved("mock://org/model")

    assert one == other
    assert [file.path for file in one.files] == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    for file in one.files:
        content = read(one, file)
        assert len(content) == file.size
        assert file.sha256 is not None
        assert hashlib.sha256(content).hexdigest() == file.sha256.hex


def test_another_name_is_another_content():
    one, other = resolved("mock://org/a"), resolved("mock://org/b")

    assert one.revision != other.revision
    assert one.files[1].sha256 != other.files[1].sha256


def test_its_weights_have_a_header_that_can_be_read():
    snapshot = resolved("mock://org/model")
    content = read(snapshot, snapshot.files[1])

    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["weight"]["data_offsets"] == [0, len(content) - 8 - length]


@given(
    size=st.integers(0, 3 << 20),
    part=st.floats(0, 1),
    name=st.sampled_from(["x.bin", "x.safetensors", "x.json", "x.gguf"]),
)
def test_a_stream_from_any_offset_is_the_rest_of_the_whole(size, part, name):
    snapshot = resolved(f"mock://o/m?files={name}&content=random:{size}:7")
    offset = int(size * part)

    whole = read(snapshot, snapshot.files[0])

    assert len(whole) == size
    assert read(snapshot, snapshot.files[0], offset) == whole[offset:]


def test_files_alone_are_empty_and_content_fills_them():
    empty = resolved("mock://o/m?files=config.json,sub/x.bin")
    filled = resolved("mock://o/m?files=config.json,sub/x.bin&content=random:100:s")

    assert [file.size for file in empty.files] == [0, 0]
    assert [file.size for file in filled.files] == [100, 100]
    assert json.loads(read(filled, filled.files[0]))["mock"] == "config.json"


def test_a_large_file_is_named_at_once_and_claims_no_digest():
    snapshot = resolved("mock://o/m?files=x.bin&content=random:99999999999999:7")

    assert snapshot.files[0].digests == ()
    assert len(next(source().locate(snapshot, snapshot.files[0]).open(5 << 40))) == 1 << 20


def test_a_revision_may_be_named_and_must_look_like_one():
    assert resolved(f"mock://o/m@{SHA}").revision == SHA
    assert resolved("mock://o/m@main").revision == resolved("mock://o/m").revision
    with pytest.raises(RevisionNotFound):
        resolved("mock://o/m@no-such")


def test_a_hostile_file_name_is_refused():
    with pytest.raises(UnsafeName):
        resolved("mock://o/m?files=../x")


def test_a_file_it_does_not_make_is_refused():
    snapshot = resolved("mock://o/m")

    with pytest.raises(FileNotFound):
        source().locate(snapshot, ModelFile(SafeRelPath.parse("other.bin")))


def test_its_location_is_a_stream():
    snapshot = resolved("mock://o/m")

    assert isinstance(source().locate(snapshot, snapshot.files[0]), Stream)


def test_mock_models_cannot_be_searched():
    with pytest.raises(UsageError):
        source().search(Query("x"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"org": "a/b"}, "org"),
        ({"model": "m@v1"}, "model"),
        ({"model": "m", "files": ["a,b"]}, "comma"),
        ({"files": "a"}, "files"),
    ],
)
def test_keys_that_its_ref_could_not_say_are_refused(keys, said):
    with pytest.raises(UsageError, match=said):
        source().ref_of(keys)


def test_the_keys_of_the_seed_make_what_they_name():
    made = source()
    keys: dict[str, object] = {
        "org": "test",
        "model": "empty",
        "files": ["config.json", "tokenizer.json"],
    }

    snapshot = made.resolve(made.ref_of(keys | {"commit_sha": "abc123def456"}))

    assert [(str(file.path), file.size) for file in snapshot.files] == [
        ("config.json", 0),
        ("tokenizer.json", 0),
    ]
    assert snapshot.revision == "abc123def456"
    assert made.resolve(made.ref_of(keys)) == made.resolve(made.ref_of(keys))


ENTRY = (
    '[models.llm.x]\nsource = "mock"\nmodel = "m"\nfiles = ["a.bin"]\ncontent = "random:{size}:s"\n'
)


def test_a_lock_of_a_mock_is_synced_on_an_empty_machine(tmp_path):
    own, other = Machine(None, tmp_path / "own"), Machine(None, tmp_path / "other")
    own.run("sync", own.write("m.toml", ENTRY.format(size=70_000)))

    said = other.run("sync", own.home / "m.lock.toml")

    assert said.code == 0, said.err
    assert other.files() == own.files()
    assert other.run("verify").code == 0


def test_a_mock_that_was_killed_goes_on_where_it_stopped(tmp_path):
    own = Machine(None, tmp_path, {"MODELBAY_BANDWIDTH": "16M"})
    file = own.write("m.toml", ENTRY.format(size=64 << 20))
    process = own.start("sync", file)
    until = time.monotonic() + 20
    while not list(own.workspace.glob("**/.modelbay/parts/*.journal")):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.communicate()
    del own.more["MODELBAY_BANDWIDTH"]

    planned = own.run("sync", file, "--dry-run")
    said = own.run("sync", file)

    assert "resume" in planned.out
    assert said.code == 0, said.err
    assert [len(content) for content in own.files().values()] == [64 << 20]
    assert own.run("verify").code == 0
