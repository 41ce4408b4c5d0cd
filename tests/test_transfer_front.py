"""Digests and sums made while bytes come."""

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.digest import Digest
from modelbay.transfer.front import Hasher
from modelbay.transfer.limits import SUM_SIZE

BODY = bytes(range(256)) * (SUM_SIZE // 256) + b"the rest"


def fed(body: bytes, *cuts: int) -> Hasher:
    hasher = Hasher({"git-sha1", "blake3"}, len(body))
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        hasher.feed(memoryview(body)[start:end])
    return hasher


@given(st.lists(st.integers(0, len(BODY)), max_size=5))
def test_it_does_not_matter_how_the_bytes_are_cut(cuts: list[int]):
    hasher = fed(BODY, *cuts)

    assert hasher.observed() == fed(BODY).observed()
    assert hasher.sums() == fed(BODY).sums()


def test_a_sum_is_the_digest_of_the_file_up_to_there():
    whole = hashlib.sha256(BODY).digest()

    assert fed(BODY).sums() == (hashlib.sha256(BODY[:SUM_SIZE]).digest(), whole)


@pytest.mark.parametrize("size", [0, 1, SUM_SIZE])
def test_the_last_sum_is_the_digest_of_the_whole(size: int):
    body = BODY[:size]

    assert fed(body).sums() == (hashlib.sha256(body).digest(),)


def test_a_git_digest_begins_with_the_size():
    git = hashlib.sha1(b"blob 5\0" + b"bytes").hexdigest()

    assert Digest("git-sha1", git) in fed(b"bytes").observed()
