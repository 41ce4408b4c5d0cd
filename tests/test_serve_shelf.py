"""What lies on a shelf: bytes made by offset, digests, revisions, names."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.serve import Facts, Generated, MemoryShelf, OnDisk
from modelbay.serve.content import BLOCK, Content, Held, sha256_of
from modelbay.serve.shelf import pointer_to

WHOLE = Generated(3 * BLOCK + 17, "seed", b"a head of 24 bytes here.")


def read(content: Content, start: int, stop: int) -> bytes:
    return b"".join(content.pieces(start, stop))


ALL = read(WHOLE, 0, WHOLE.size)


@given(st.integers(0, WHOLE.size), st.integers(0, WHOLE.size))
def test_generated_bytes_are_the_same_wherever_reading_begins(one: int, other: int):
    start, stop = sorted((one, other))

    assert read(WHOLE, start, stop) == ALL[start:stop]


def test_generated_bytes_begin_with_the_head_and_are_as_many_as_said():
    assert len(ALL) == WHOLE.size
    assert ALL.startswith(WHOLE.head)


def test_generated_blocks_differ():
    blocks = {ALL[24 + n * BLOCK : 24 + (n + 1) * BLOCK] for n in range(3)}

    assert len(blocks) == 3


def test_other_seeds_make_other_bytes():
    assert read(Generated(64, "one"), 0, 64) != read(Generated(64, "two"), 0, 64)


def test_a_byte_far_out_costs_no_more_than_one_at_the_front():
    vast = Generated(1 << 50, "vast")

    assert len(read(vast, (1 << 50) - 5, 1 << 50)) == 5


def test_a_head_longer_than_the_whole_is_a_mistake():
    with pytest.raises(ValueError, match="longer than the whole"):
        Generated(3, "seed", b"four")


def test_a_file_on_disk_reads_as_its_bytes(tmp_path: Path):
    path = tmp_path / "weights.bin"
    path.write_bytes(ALL)

    assert read(OnDisk(path), BLOCK - 3, BLOCK + 3) == ALL[BLOCK - 3 : BLOCK + 3]


def test_a_file_that_became_shorter_is_an_error_and_not_a_short_answer(tmp_path: Path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"12345")

    with pytest.raises(OSError, match="ended at 5 of 9"):
        read(OnDisk(path), 0, 9)


def test_a_known_sha256_is_not_computed_again():
    assert sha256_of(Generated(1 << 50, "vast", b"", "ab" * 32)) == "ab" * 32


def test_weights_are_lfs_and_texts_are_not():
    shelf = MemoryShelf()
    commit = shelf.add("org/model", {"model.safetensors": b"weights", "config.json": "{}"})
    repo = shelf.repo("org/model")
    assert repo is not None

    files = shelf.files(repo, commit)

    sha256 = hashlib.sha256(b"weights").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 7\n".encode()
    assert files["model.safetensors"].sha256 == sha256
    assert files["model.safetensors"].git_sha1 == git(pointer)
    assert files["config.json"].sha256 is None
    assert files["config.json"].etag == git(b"{}")


def test_a_pointer_is_as_long_as_the_real_hubs():
    assert len(pointer_to("0" * 64, 1_624_555_275)) == 135


def test_a_large_text_is_lfs():
    shelf = MemoryShelf()
    commit = shelf.add("org/model", {"vocab.txt": Generated(10 << 20, "vocab")})
    repo = shelf.repo("org/model")
    assert repo is not None

    assert shelf.files(repo, commit)["vocab.txt"].lfs


def test_commits_follow_from_what_was_committed():
    one, other = MemoryShelf(), MemoryShelf()

    assert one.add("org/m", {"a": b"1"}) == other.add("org/m", {"a": b"1"})
    assert one.add("org/m", {"a": b"2"}) != other.add("org/m", {"a": b"3"})


def test_every_name_of_a_revision_leads_to_its_commit():
    shelf = MemoryShelf()
    first = shelf.add("org/m", {"a": b"1"})
    second = shelf.add("org/m", {"a": b"2"})
    shelf.tag("org/m", "v1", first)
    shelf.pull("org/m", 7, first)
    repo = shelf.repo("org/m")
    assert repo is not None

    assert repo.commit == second
    assert [commit.id for commit in shelf.commits(repo, second)] == [second, first]
    for name in ("v1", "refs/tags/v1", "refs/pr/7", first, first[:7]):
        assert shelf.commit_of(repo, name) == first
    for name in ("main", "refs/heads/main", second):
        assert shelf.commit_of(repo, name) == second
    for name in ("v2", "", first[:6], "refs/pr/8"):
        assert shelf.commit_of(repo, name) is None


def test_an_old_commit_keeps_its_files():
    shelf = MemoryShelf()
    first = shelf.add("org/m", {"a": b"1", "gone": b"2"})
    shelf.add("org/m", {"a": b"3"})
    repo = shelf.repo("org/m")
    assert repo is not None

    assert list(shelf.files(repo, first)) == ["a", "gone"]
    assert read(shelf.open(repo, first, "a"), 0, 1) == b"1"


def test_earlier_names_and_other_letter_case_lead_to_the_repository():
    shelf = MemoryShelf()
    shelf.add("Org/Model", {"a": b"1"}, facts=Facts(licence="mit"))
    shelf.rename("legacy", "Org/Model")

    found = [shelf.repo(name) for name in ("Org/Model", "org/MODEL", "legacy", "Legacy")]

    assert [repo.id if repo else None for repo in found] == ["Org/Model"] * 4
    assert shelf.repo("org/other") is None


def test_a_repository_without_main_stands_at_its_only_branch():
    shelf = MemoryShelf()
    commit = shelf.add("org/m", {"a": b"1"}, branch="trunk")
    repo = shelf.repo("org/m")

    assert repo is not None
    assert repo.commit == commit


def test_held_bytes_are_not_shown():
    assert "secret weights" not in repr(Held(b"secret weights"))


def git(raw: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
