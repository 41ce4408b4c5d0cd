"""A journal that was damaged, or written by something else: row 67. It is believed or it is not,
and whichever it is the fetch ends with the right bytes.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from modelbay.location import Stream
from modelbay.transfer import journal
from modelbay.transfer.journal import Journal
from tests.faults.harness import Fetching
from tests.faults.server import MIB, Content, FaultServer, noise

SIZE = 5 * MIB
CONTENT = Content(noise(SIZE, seed=7))
WRITTEN = 3 * MIB
"""What the part holds; the honest journal claims two spans of it."""
HONEST = Journal(SIZE, str(CONTENT.sha256), ((0, MIB), (2 * MIB, WRITTEN)), CONTENT.etag)
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 1.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "1", "x", "\ud800", "a\r\nb: c", "\x1b[31m", "é", SIZE, SIZE + 1, 2**63, 2**64, 10**40),
    *([], {}, [[]], [0, 1], [[0, 1, 2]], {"start": 0, "end": 5}),
]
SPANS: list[Any] = [
    [[0, SIZE + 1]], [[0, 10**40]], [[-5, MIB]], [[-MIB, -1]], [[MIB, 0]], [[0, MIB], [0, MIB]],
    [[0, 2 * MIB], [MIB, WRITTEN]], [[WRITTEN, SIZE]], [[0, 1e308]], [[0, float("inf")]],
    [[float("nan"), MIB]], [[0.9, MIB]], [["0", "9"]], [[True, MIB]], [[0, None]], [[0]], ["09"],
    [[number, number + 1] for number in range(0, 20_000, 2)], {"0": [0, 1]}, [[[0, 1], [2, 3]]],
]  # fmt: skip


def signed(body: str, version: object = journal.VERSION) -> bytes:
    """`body` as a journal whose checksum is right."""
    total = blake3(body.encode("utf-8", "surrogatepass")).hexdigest()
    return json.dumps({"version": version, "sum": total, "body": body}).encode()


def flipped(rng: random.Random, raw: bytes) -> bytes:
    damaged = bytearray(raw)
    for _ in range(rng.choice([1, 1, 3, 40])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(rng: random.Random, raw: bytes) -> bytes:
    return raw[: rng.randrange(len(raw))]


def torn(rng: random.Random, raw: bytes) -> bytes:
    """The right length, and zeros where a power cut lost the rest."""
    return cut(rng, raw).ljust(len(raw), b"\0")


def repeated(rng: random.Random, raw: bytes) -> bytes:
    start, end = sorted(rng.sample(range(len(raw)), 2))
    return raw[:end] + raw[start:]


def of_another_version(rng: random.Random, raw: bytes) -> bytes:
    return signed(json.loads(raw)["body"], rng.choice([0, 2, -1, "1", None, [], 1.5, 10**30]))


def with_an_odd_value(rng: random.Random, raw: bytes) -> bytes:
    """Any field of the body holds anything, and the checksum agrees."""
    body = json.loads(json.loads(raw)["body"])
    for name in rng.sample(sorted(body), rng.choice([1, 1, 2, 4])):
        body[name] = rng.choice(ODD)
    return signed(json.dumps(body))


def with_odd_spans(rng: random.Random, raw: bytes) -> bytes:
    return signed(json.dumps({**asdict(HONEST), "spans": rng.choice(SPANS)}))


def with_any_spans(rng: random.Random, raw: bytes) -> bytes:
    """Numbers of any size in any order; most of them claim what nobody wrote."""
    limit = rng.choice([9, SIZE, 2 * SIZE, 2**70])
    count = rng.choice([1, 2, 50])
    spans = [[rng.randint(-limit // 9, limit), rng.randint(-9, limit)] for _ in range(count)]
    return signed(json.dumps({**asdict(HONEST), "spans": spans}))


def without_a_field(rng: random.Random, raw: bytes) -> bytes:
    body = asdict(HONEST)
    body.pop(rng.choice(sorted(body)))
    return signed(json.dumps(body))


def with_a_field_twice(rng: random.Random, raw: bytes) -> bytes:
    body: str = json.loads(raw)["body"]
    name, value = rng.choice(sorted(asdict(HONEST))), json.dumps(rng.choice(ODD))
    twice = f'"{name}":{value}'
    return signed(rng.choice([f"{body[:-1]},{twice}}}", f"{{{twice},{body[1:]}"]))


def of_another_shape(rng: random.Random, raw: bytes) -> bytes:
    """JSON, or nearly, that is no journal at all."""
    shapes = ["[]", "7", "null", '"x"', "{}", "[" * 100_000, '{"a":' * 50_000, "1" * 6000, "NaN"]
    chosen = rng.choice(shapes)
    outer = {"version": journal.VERSION, "sum": "", "body": rng.choice(ODD)}
    return rng.choice([chosen.encode(), signed(chosen), json.dumps(outer).encode(), b"", b"\0"])


def of_any_bytes(rng: random.Random, raw: bytes) -> bytes:
    return rng.choice([b"", b"\xff\xfe", b"\xef\xbb\xbf"]) + rng.randbytes(rng.randrange(400))


def of_another_content(rng: random.Random, raw: bytes) -> bytes:
    changes: list[dict[str, Any]] = [
        {"identity": "sha256:" + "0" * 64},
        {"size": SIZE - 1},
        {"validator": '"other"'},
    ]
    return signed(json.dumps({**asdict(HONEST), **rng.choice(changes)}))


Mutation = Callable[[random.Random, bytes], bytes]
MUTATIONS: list[Mutation] = [
    *(flipped, cut, torn, repeated, of_another_version, with_an_odd_value, with_odd_spans),
    *(with_any_spans, without_a_field, with_a_field_twice, of_another_shape, of_any_bytes),
    of_another_content,
]


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    made = Fetching(tmp_path)
    yield made
    made.client.close()


def a_part(folder: Path) -> Path:
    """A part that holds `WRITTEN` bytes, of which a hole in the middle is not the file's."""
    part = folder / "model.bin.part"
    part.write_bytes(CONTENT.body[:MIB] + bytes(MIB) + CONTENT.body[2 * MIB : WRITTEN])
    return part


def mutated(number: int, raw: bytes) -> bytes:
    return MUTATIONS[number % len(MUTATIONS)](random.Random(number), raw)


def the_honest_one(part: Path) -> bytes:
    journal.write(part, HONEST)
    return journal.path_of(part).read_bytes()


def test_an_honest_journal_is_read_as_it_was_written(tmp_path: Path):
    part = a_part(tmp_path)
    the_honest_one(part)

    assert journal.read(part) == HONEST


def test_a_journal_of_which_one_digit_flipped_is_not_believed(tmp_path: Path):
    part = a_part(tmp_path)
    raw = the_honest_one(part)
    flipped = raw.replace(str(MIB).encode(), str(MIB + 1).encode())

    journal.path_of(part).write_bytes(flipped)

    assert flipped != raw
    assert journal.read(part) is None


def test_a_thousand_damaged_journals_claim_nothing_that_the_part_does_not_hold(tmp_path: Path):
    part = a_part(tmp_path)
    raw = the_honest_one(part)
    believed = 0

    for number in range(1000):
        journal.path_of(part).write_bytes(mutated(number, raw))
        found = journal.read(part)
        if found is None:
            continue
        believed += 1
        ends = [0, *(edge for span in found.spans for edge in span), WRITTEN]
        assert ends == sorted(ends), (number, found)
        assert {type(edge) for edge in ends} == {int}, (number, found)
        assert found.held <= WRITTEN, (number, found)

    print(f"{believed} of 1000 believed")
    assert 0 < believed < 500


@pytest.mark.parametrize("kind", MUTATIONS, ids=lambda kind: kind.__name__)
def test_a_fetch_beside_a_damaged_journal_ends_with_the_right_bytes(
    fetching: Fetching, kind: Mutation
):
    parts = fetching.folder / "parts"
    parts.mkdir()
    with FaultServer(CONTENT) as server:
        for number in range(4):
            part = a_part(parts)
            raw = the_honest_one(part)
            journal.path_of(part).write_bytes(kind(random.Random(number), raw))

            assert fetching.get(server, CONTENT).bytes == CONTENT.body
            assert list(parts.iterdir()) == []


@pytest.mark.parametrize("odd", [5, ["x"], "a\r\nb: c", "é", "\x1b"])
def test_a_validator_that_is_no_header_is_not_sent(fetching: Fetching, odd: object):
    parts = fetching.folder / "parts"
    parts.mkdir()
    part = a_part(parts)
    body = {**asdict(HONEST), "validator": odd}
    journal.path_of(part).write_bytes(signed(json.dumps(body)))

    with FaultServer(CONTENT) as server:
        assert fetching.get(server, CONTENT).bytes == CONTENT.body


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1, 2 * SIZE])
def test_a_stream_is_not_continued_by_a_journal_of_another_size(fetching: Fetching, size: int):
    parts = fetching.folder / "parts"
    parts.mkdir()
    part = parts / "model.bin.part"
    part.write_bytes(bytes(size))
    journal.write(part, Journal(size, str(CONTENT.sha256), ((0, size),)))

    def rest(offset: int):
        yield CONTENT.body[offset:]

    outcome = fetching.run(fetching.order(lambda: Stream(rest), CONTENT))

    assert outcome.bytes == CONTENT.body


@pytest.mark.parametrize("etag", ['"é"', '"a\x1bb"', '"a\tb"'])
def test_a_validator_of_a_server_that_no_header_may_hold_is_no_validator(
    fetching: Fetching, etag: str
):
    with FaultServer(Content(CONTENT.body, etag)) as server:
        assert fetching.get(server, CONTENT).bytes == CONTENT.body
        assert not any(request.header("if-range") for request in server.log)
