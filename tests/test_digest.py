import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.digest import Digest, disagreement, find
from modelbay.errors import FormatError

HEX = hashlib.sha256(b"modelbay").hexdigest()


@given(st.binary(max_size=64))
def test_a_digest_is_read_back_from_what_it_prints(content):
    digest = Digest("sha256", hashlib.sha256(content).hexdigest())

    assert Digest.parse(str(digest)) == digest


def test_hex_in_capitals_and_the_sri_form_mean_the_same():
    sri = "sha256-" + base64.b64encode(bytes.fromhex(HEX)).decode()

    assert Digest.parse(f"sha256:{HEX.upper()}") == Digest.parse(sri) == Digest.sha256(HEX)


@pytest.mark.parametrize(
    "text",
    [
        "", HEX, "sha256:", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX}\n0", "sha256-...", "sha256-AAAA", f"crc32:{HEX}", "md5:xyz",
        "sha256:" + "٠" * 64,
    ],
)  # fmt: skip
def test_what_is_not_wholly_a_digest_is_refused(text):
    with pytest.raises(FormatError):
        Digest.parse(text)


def test_observing_does_not_change_what_a_digest_equals():
    assert Digest.sha256(HEX, observed=True) == Digest.sha256(HEX)


def test_a_claim_that_differs_from_the_fact_is_found():
    claim, fact = Digest.sha256(HEX), Digest.sha256("0" * 64, observed=True)

    assert disagreement((claim,), (fact,)) == (claim, fact)


def test_digests_of_different_algorithms_do_not_disagree():
    assert disagreement((Digest.sha256(HEX),), (Digest("md5", "0" * 32),)) is None


def test_the_digest_of_an_algorithm_is_found():
    digests = (Digest("md5", "0" * 32), Digest.sha256(HEX))

    assert find(digests, "sha256") == Digest.sha256(HEX)
    assert find(digests, "blake3") is None
