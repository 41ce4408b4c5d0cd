"""What is known of every file: by content, by volume, by inode; kept while disks come and go."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelbay.digest import Digest
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from modelbay.library.index import Index, IndexedFile, IndexedHome, IndexedModel
from modelbay.library.index_homes import homes_in_cache, remember, remembered
from tests.layouts import COMMIT, bring, sha256

REF = "hf://org/model"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index.open(tmp_path / "state/library.db") as index:
        yield index


def observed(content: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(content).hexdigest(), observed=True)


def a_model(root: Path, ref: str = REF, **facts: str) -> IndexedModel:
    given = {"revision": COMMIT, "layout": "dir", "model": ref, **facts}
    return IndexedModel(ref=ref, root=root, source="huggingface", **given)  # type: ignore[arg-type]


def put(path: Path, content: bytes, *, name: str = "", read: bool = True) -> IndexedFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    digest = observed(content) if read else sha256(content)
    return IndexedFile.seen(path, [digest], name=name or path.name, placed=True)


def refs(index: Index, like: str | None = None) -> list[str]:
    return [model.ref for model in index.models(like)]


def test_a_noted_model_is_told_with_its_files(tmp_path: Path, index: Index):
    files = [put(tmp_path / "m/b.bin", b"bbb"), put(tmp_path / "m/a.bin", b"aa", name="sub/a.bin")]

    index.note(a_model(tmp_path / "m"), files)

    (model,) = index.models()
    assert (model.ref, model.files, model.size, model.attached) == (REF, 2, 5, True)
    assert [(file.name, file.path) for file in index.files_of(model)] == [
        ("b.bin", tmp_path / "m/b.bin"),
        ("sub/a.bin", tmp_path / "m/a.bin"),
    ]
    assert index.at(tmp_path / "m/b.bin") == next(index.files_of(model))
    assert index.models_with(tmp_path / "m/a.bin") == [model]
    assert index.models_with(tmp_path / "m/c.bin") == []


def test_a_model_that_is_noted_twice_is_there_once(tmp_path: Path, index: Index):
    one, other = put(tmp_path / "m/a", b"a"), put(tmp_path / "m/b", b"b")

    index.note(a_model(tmp_path / "m"), [one])
    index.note(a_model(tmp_path / "m", revision="d" * 40), [other])

    (model,) = index.models()
    assert (model.revision, model.files) == ("d" * 40, 2)


def test_revisions_lie_side_by_side_in_the_hubs_cache(tmp_path: Path, index: Index):
    file = put(tmp_path / "m/blobs/a", b"a")

    index.note(a_model(tmp_path / "m", layout="hf-cache"), [file])
    index.note(a_model(tmp_path / "m", layout="hf-cache", revision="d" * 40), [file])

    assert sorted(model.revision for model in index.models()) == [COMMIT, "d" * 40]


def test_a_locks_name_takes_the_place_of_a_bare_ref_and_is_kept(tmp_path: Path, index: Index):
    files = [put(tmp_path / "m/a", b"a")]

    for name in (REF, "llm/mine", REF):
        index.note(a_model(tmp_path / "m", model=name), files)

    assert [model.model for model in index.models()] == ["llm/mine"]


def test_two_models_of_a_lock_may_share_ref_and_folder(tmp_path: Path, index: Index):
    index.note(a_model(tmp_path / "m", model="lora/a"), [put(tmp_path / "m/a", b"a")])
    index.note(a_model(tmp_path / "m", model="lora/b"), [put(tmp_path / "m/b", b"b")])

    assert [(model.model, model.files) for model in index.models()] == [
        ("lora/a", 1),
        ("lora/b", 1),
    ]


def test_models_come_by_ref_and_can_be_looked_for(tmp_path: Path, index: Index):
    for name in ("zoo/last", "Ant/first", "org/mid_dle"):
        ref = f"hf://{name}"
        index.note(a_model(tmp_path / name, ref), [put(tmp_path / name / "x", name.encode())])

    assert refs(index) == ["hf://Ant/first", "hf://org/mid_dle", "hf://zoo/last"]
    assert refs(index, "ANT") == ["hf://Ant/first"]
    assert refs(index, "d_d") == ["hf://org/mid_dle"]
    assert refs(index, "%") == []


def test_more_models_than_a_page_come_once_each(tmp_path: Path, index: Index):
    file = put(tmp_path / "x", b"x")
    wanted = [f"hf://org/m{number:04}" for number in range(120)]

    for ref in wanted:
        index.note(a_model(tmp_path / ref[5:], ref), [file])

    assert refs(index) == wanted


def test_a_claim_does_not_take_the_place_of_what_was_observed(tmp_path: Path, index: Index):
    path = tmp_path / "m/a"
    index.note(a_model(tmp_path / "m"), [put(path, b"a")])

    index.note(a_model(tmp_path / "m"), [IndexedFile.seen(path, [sha256(b"other")], name="a")])

    found = index.at(path)
    assert found is not None
    assert found.digests == (observed(b"a"),)
    assert (found.digests[0].observed, found.placed) == (True, True)


def test_changed_bytes_lose_their_digests_and_whose_they_were(tmp_path: Path, index: Index):
    path = tmp_path / "m/a"
    index.note(a_model(tmp_path / "m"), [put(path, b"a")])
    path.write_bytes(b"theirs now")

    index.note(a_model(tmp_path / "m"), [IndexedFile.seen(path, name="a")])

    found = index.at(path)
    assert found is not None
    assert (found.digests, found.placed, found.size) == ((), False, 10)


def test_holders_are_there_unchanged_and_those_that_were_read_come_first(
    tmp_path: Path, index: Index
):
    files = [
        put(tmp_path / "claimed", b"x", read=False),
        put(tmp_path / "read", b"x"),
        put(tmp_path / "gone", b"x"),
        put(tmp_path / "changed", b"x"),
        put(tmp_path / "other", b"y"),
    ]
    index.note(a_model(tmp_path), files)
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"z")
    os.utime(tmp_path / "changed", ns=(1, 1))

    found = index.holders([sha256(b"x")])

    assert [file.path.name for file in found] == ["read", "claimed"]
    assert [file.digests[0].observed for file in found] == [True, False]


def test_another_inode_of_the_same_size_and_time_is_only_said_to_be_the_same(
    tmp_path: Path, index: Index
):
    index.note(a_model(tmp_path), [put(tmp_path / "a", b"x")])
    shutil.copy2(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").replace(tmp_path / "a")

    (file,) = index.holders([sha256(b"x")])

    assert not file.digests[0].observed


def test_a_doubted_file_holds_nothing(tmp_path: Path, index: Index):
    index.note(a_model(tmp_path), [put(tmp_path / "a", b"x")])

    index.doubt(tmp_path / "a")

    assert index.holders([sha256(b"x")]) == []
    assert index.at(tmp_path / "a") is not None


def test_every_name_of_an_inode_is_known(tmp_path: Path, index: Index):
    file = put(tmp_path / "a", b"x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    twins = [IndexedFile.seen(tmp_path / name, name=name) for name in "bc"]
    index.note(a_model(tmp_path), [file, *twins, put(tmp_path / "d", b"x")])
    (tmp_path / "c").unlink()
    (tmp_path / "c").write_bytes(b"x")

    found = index.at(tmp_path / "b")
    assert found is not None
    assert index.names_of(found) == [tmp_path / "a", tmp_path / "b"]


def test_sums_are_valid_while_the_file_is_unchanged_and_serve_its_copies(
    tmp_path: Path, index: Index
):
    put(tmp_path / "a", b"whole")
    sums = [b"\1" * 32, hashlib.sha256(b"whole").digest()]
    index.keep_sums(tmp_path / "a", sums)
    index.saw(put(tmp_path / "copy", b"whole").path, [observed(b"whole")])

    assert list(index.sums(tmp_path / "a")) == list(index.sums(tmp_path / "copy")) == sums
    (tmp_path / "a").write_bytes(b"other")
    assert list(index.sums(tmp_path / "a")) == []
    assert list(index.sums(tmp_path / "nowhere")) == []


def test_what_is_forgotten_takes_models_without_files_along(tmp_path: Path, index: Index):
    one, shared = put(tmp_path / "m/a", b"a"), put(tmp_path / "m/s", b"s")
    index.note(a_model(tmp_path / "m"), [one, shared])
    index.note(a_model(tmp_path / "n", "hf://org/n"), [shared])

    index.forget([one.path])
    assert [(model.ref, model.files) for model in index.models()] == [
        (REF, 1),
        ("hf://org/n", 1),
    ]
    index.forget([shared.path])
    assert refs(index) == []


def test_a_dropped_model_leaves_the_files_of_others(tmp_path: Path, index: Index):
    one, shared = put(tmp_path / "m/a", b"a"), put(tmp_path / "m/s", b"s")
    index.note(a_model(tmp_path / "m"), [one, shared])
    index.note(a_model(tmp_path / "n", "hf://org/n"), [shared])

    index.drop(next(index.models(REF)))

    assert refs(index) == ["hf://org/n"]
    assert index.at(one.path) is None
    assert index.at(shared.path) is not None


def test_only_what_changed_is_noted_again(tmp_path: Path, index: Index):
    model, files = a_model(tmp_path), [put(tmp_path / "a", b"a"), put(tmp_path / "b", b"b")]
    places = [(name, tmp_path / name) for name in "abc"]
    assert index.unlike(model, places) == places[:2]
    index.note(model, files)
    assert index.unlike(model, places) == []

    (tmp_path / "b").write_bytes(b"changed")

    assert index.unlike(model, places) == places[1:2]
    assert index.unlike(a_model(tmp_path, revision="d" * 40), places) == places[:2]


def test_a_path_through_a_link_is_the_file_that_it_leads_to(tmp_path: Path, index: Index):
    index.note(a_model(tmp_path / "m"), [put(tmp_path / "m/a", b"a")])
    (tmp_path / "link").symlink_to(tmp_path / "m")

    found = index.at(tmp_path / "link/a")

    assert found is not None
    assert found.path == tmp_path / "m/a"


def test_names_that_are_no_text_are_kept_as_they_are(tmp_path: Path, index: Index):
    path = tmp_path / os.fsdecode(b"caf\xe9.bin")
    try:
        file = put(path, b"x")
    except OSError:
        pytest.skip("this file system takes text only")

    index.note(a_model(tmp_path), [file])

    assert [one.path for one in index.holders([sha256(b"x")])] == [path]


def test_threads_share_one_index(tmp_path: Path, index: Index):
    def work(number: int) -> None:
        for n in range(20):
            path = tmp_path / f"m{number}/{n}"
            index.note(a_model(path.parent, f"hf://org/m{number}"), [put(path, b"x")])
            index.holders([sha256(b"x")])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [model.files for model in index.models()] == [20] * 4


def test_a_lost_index_is_rebuilt_from_the_records_on_disk(tmp_path: Path):
    contents = {"config.json": b"{}", "model.safetensors": b"weights"}
    bring(contents, HfCache(tmp_path / "hub"))
    bring(contents, HfCache(tmp_path / "hub"), commit="d" * 40)
    bring(contents, Dir(tmp_path / "plain"), name="org/other")
    (tmp_path / "plain/config.json").write_bytes(b"{'theirs': 1}")

    with Index.open(tmp_path / "library.db") as index:
        assert index.fresh
        homes = [*homes_in_cache(tmp_path / "hub"), IndexedHome(tmp_path / "plain", "dir")]
        index.rebuild(homes)
        models = [(model.ref, model.revision[0], model.files) for model in index.models()]
        holders = {file.path for file in index.holders([sha256(b"weights")])}

    assert models == [(REF, "c", 2), (REF, "d", 2), ("hf://org/other", "c", 1)]
    blob = tmp_path / "hub/models--org--model/blobs" / sha256(b"weights").hex
    assert holders == {blob, tmp_path / "plain/model.safetensors"}
    with Index.open(tmp_path / "library.db") as again:
        assert not again.fresh
        assert {home.base for home in again.homes()} == {home.base for home in homes}


def test_homes_are_remembered_beside_the_index(tmp_path: Path):
    homes = [IndexedHome(tmp_path / "a", "dir"), IndexedHome(tmp_path / "b", "folders", "sdnext")]

    remember(tmp_path / "library.db", homes)

    assert remembered(tmp_path / "library.db") == homes
    (tmp_path / "homes.json").write_bytes(b'[{"base": 3}]')
    assert remembered(tmp_path / "library.db") == []


def test_an_index_in_memory_leaves_nothing(tmp_path: Path):
    file = put(tmp_path / "a", b"a")
    with Index.in_memory() as index:
        index.note(a_model(tmp_path), [file])

        assert refs(index) == [REF]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_ten_thousand_files_are_noted_in_a_second_and_the_first_rows_come_at_once(
    tmp_path: Path, index: Index
):
    digests = [
        Digest.sha256(hashlib.sha256(b"%d" % n).hexdigest(), observed=True) for n in range(10_000)
    ]
    files = [
        IndexedFile(tmp_path / f"{n:05}", n, n, n, (digest,), placed=True, name=f"{n:05}")
        for n, digest in enumerate(digests)
    ]

    began = time.process_time()
    index.note(a_model(tmp_path), files)
    noted = time.process_time() - began
    began = time.process_time()
    model = next(index.models())
    shown = time.process_time() - began

    print(f"10,000 files noted in {noted:.2f} s of CPU, the first row in {shown * 1000:.1f} ms")
    assert (model.files, sum(1 for _ in index.files_of(model))) == (10_000, 10_000)
    assert noted <= 1.0
    assert shown <= 0.1


@contextmanager
def tmpfs(*points: Path) -> Iterator[None]:
    """One file system, mounted at the first of `points` and bound to the others."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    for point in points:
        point.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "ours:models", str(points[0])], check=True)
        for point in points[1:]:
            subprocess.run(["mount", "--bind", str(points[0]), str(point)], check=True)
        yield
    finally:
        for point in points:
            subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)


@pytest.mark.real
def test_a_disk_that_is_taken_away_is_detached_and_never_forgotten(tmp_path: Path):
    state = tmp_path / "library.db"
    here, there = tmp_path / "here", tmp_path / "there"
    with tmpfs(here, there):
        with Index.open(state) as index:
            index.note(a_model(here / "m"), [put(here / "m/a", b"a")])
            index.note_home(here, "dir", None)
        subprocess.run(["umount", "-l", str(here)], check=True)
        with Index.open(state) as index:
            (model,) = index.models()
            (file,) = index.holders([sha256(b"a")])
            elsewhere = (model.root, model.attached, file.path, index.homes()[0].base)
        subprocess.run(["umount", "-l", str(there)], check=True)
        with Index.open(state) as index:
            (model,) = index.models()
            index.forget([here / "m/a"])
            gone = (model.root, model.attached, model.files, index.homes()[0].attached)
            holders = index.holders([sha256(b"a")])
            left = refs(index)

    assert elsewhere == (there / "m", True, there / "m/a", there)
    assert gone == (here / "m", False, 1, False)
    assert holders == []
    assert left == [REF]
