"""Every guard is taken out of a copy of the package once, and the tests that watch it must fail.

A mutation names the text that it replaces. A guard that moved fails here, so that nobody
believes in one that is not there any more.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import modelbay

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]
PACKAGE = Path(modelbay.__file__).parent
RED, GREEN = 1, 0
"""pytest's exit codes. Any other says that nothing was tested."""
CHILD = """
import sys
import modelbay, pytest
wanted, *selection = sys.argv[1:]
assert modelbay.__file__ == wanted, modelbay.__file__
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-W", "error", *selection]))
"""


@dataclass(frozen=True)
class Mutant:
    """`old`, once in `module`, becomes `new`, and one of `tests` fails."""

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


def _in(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::{name}" for name in names)


CARRIES = _in(
    "test_http_client",
    "test_what_we_carry_goes_to_its_own_origin_only[port-302-open]",
    "test_what_we_carry_goes_to_its_own_origin_only[port-302-ask]",
)
TRACED = "test_durability"
MUTANTS = (
    Mutant(
        "no hash is compared",
        "transfer/engine.py",
        "if differing is not None:",
        "if False:",
        _in("faults/test_contents", "test_a_flipped_bit_that_stays_is_refused_after_one_restart"),
    ),
    Mutant(
        "no size is compared",
        "transfer/remote.py",
        "elif self.size != size:",
        "elif False:",
        _in("faults/test_ranges", "test_a_total_that_is_too_long_is_refused_at_once"),
    ),
    Mutant(
        "no If-Range",
        "transfer/remote.py",
        'own["If-Range"] = self.etag',
        "pass",
        _in("faults/test_connections", "test_a_body_that_breaks_off_goes_on_where_it_broke"),
    ),
    Mutant(
        "a part may start anywhere",
        "transfer/remote.py",
        "if found is None or int(found[1]) != start:",
        "if found is None:",
        _in("test_parts", "test_a_range_that_starts_elsewhere_is_not_used_where_no_hash_would_tell"),
    ),
    Mutant(
        "a validator may change midway",
        "transfer/remote.py",
        "elif found is not None and found != self.etag:",
        "elif False:",
        _in("test_parts", "test_a_server_that_takes_no_notice_of_if_range_gives_no_joined_file"),
    ),
    Mutant(
        "the credential goes everywhere",
        "http/client.py",
        "if ask.credential is not None and origin_of(url) in ask.credential.origins:",
        "if ask.credential is not None:",
        CARRIES,
    ),
    Mutant(
        "headers of ours go everywhere",
        "http/client.py",
        "        if _same_origin(url, ask.url):\n            headers.update(ask.headers)",
        "        if True:\n            headers.update(ask.headers)",
        CARRIES,
    ),
    Mutant(
        "https may become http",
        "http/redirects.py",
        'if urlsplit(url).scheme == "https" and parts.scheme == "http":',
        "if False:",
        _in("faults/test_refusals", "test_a_redirect_from_https_to_http_is_refused"),
    ),
    Mutant(
        "private addresses are connected to",
        "http/sockets.py",
        "    if _current.guarded:\n        found =",
        "    if False:\n        found =",
        _in("test_http_client", "test_a_guarded_connection_is_not_made_to_a_private_address"),
    ),
    Mutant(
        "a page may stand for a model",
        "transfer/inspection.py",
        "if suffix not in _PAGES and _PAGE.match(head[:4096]):",
        "if False:",
        _in("faults/test_contents", "test_a_page_as_long_as_the_file_is_refused_by_its_first_64_kib"),
    ),
    Mutant(
        "encoded bodies are taken",
        "transfer/remote.py",
        "if encoding in _PLAIN_CODINGS or reply.status not in {200, 206}:",
        "if True:",
        _in(
            "faults/test_contents",
            "test_an_encoded_file_is_refused_and_plain_bytes_were_asked_for",
            "test_an_encoded_file_without_hash_or_size_is_refused",
        ),
    ),
    Mutant(
        "a large file is not synced before it is published",
        "transfer/engine.py",
        "files.sync_file(descriptor)",
        "pass",
        _in(
            TRACED,
            "test_a_file_gets_its_name_after_all_of_it_was_synced_and_is_never_written_again",
        ),
    ),
    Mutant(
        "a small file is not synced before it is published",
        "transfer/single.py",
        "raise ended_early(self.order.name)\n                files.sync_file(descriptor)",
        "raise ended_early(self.order.name)",
        _in(TRACED, "test_a_small_file_is_synced_before_it_gets_its_name"),
    ),
    Mutant(
        "the folder is not synced after a publication",
        "files/names.py",
        "        os.rename(part, name, dst_dir_fd=folder)\n    sync_folder(folder)",
        "        os.rename(part, name, dst_dir_fd=folder)",
        _in(TRACED, "test_a_name_is_durable_before_what_it_was_made_from_is_forgotten"),
    ),
    Mutant(
        "the journal comes before its data",
        "transfer/ranged.py",
        "                self._sync_data()\n                state =",
        "                state =",
        _in(TRACED, "test_no_journal_claims_a_byte_that_was_not_synced_before"),
    ),
    Mutant(
        "a journal is not synced before it takes its name",
        "files/durable.py",
        "        if durable:\n            os.fsync(descriptor)\n        temporary",
        "        temporary",
        _in(TRACED, "test_a_journal_is_synced_before_it_takes_its_name"),
    ),
    Mutant(
        "a sync that failed is tried again and believed",
        "transfer/ranged.py",
        "if not spans or self.unsynced is not None:",
        "if not spans:",
        _in(TRACED, "test_a_disk_that_takes_no_more_of_the_part_keeps_what_is_there[fdatasync:error=EIO:when=1]"),
    ),
    Mutant(
        "a journal has no checksum",
        "transfer/journal.py",
        ' or _sum(whole["body"]) != whole["sum"]:',
        ":",
        _in("test_journal", "test_a_journal_of_which_one_digit_flipped_is_not_believed"),
    ),
    Mutant(
        "a journal may claim more than the part holds",
        "transfer/journal.py",
        "limit = min(size, there)",
        "limit = size",
        _in(
            "test_journal",
            "test_a_thousand_damaged_journals_claim_nothing_that_the_part_does_not_hold",
        ),
    ),
    Mutant(
        "a new name replaces what has it",
        "files/names.py",
        "if not _rename_no_replace(part, folder, name):\n",
        "os.rename(part, name, dst_dir_fd=folder)\n    if False:\n",
        _in("test_files", "test_a_new_name_never_replaces_one_that_came_meanwhile"),
    ),
    Mutant(
        "links below the root are followed",
        "files/names.py",
        "os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC\n\n",
        "os.O_DIRECTORY | os.O_CLOEXEC\n\n",
        _in("test_layout_dir", "test_a_link_planted_after_the_plan_was_made_is_refused"),
    ),
    Mutant(
        "a part may be a link",
        "files/durable.py",
        "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW",
        "os.O_RDWR | os.O_CREAT",
        _in("test_parts", "test_a_part_that_is_a_planted_link_is_not_written_through"),
    ),
    Mutant(
        "names of servers are not judged",
        "safepath.py",
        "            _check(component, text)",
        "            pass",
        _in("test_safepath", "test_a_name_that_no_disk_should_see_is_refused"),
    ),
    Mutant(
        "controls reach the terminal",
        "text.py",
        'return _PICTURES.get(point) or f"‹U+{point:04X}›"',
        "return character",
        _in("test_text", "test_what_could_steer_a_terminal_is_shown_as_a_picture"),
    ),
    Mutant(
        "a secret shows itself",
        "text.py",
        '        return "***"\n\n    __str__',
        "        return self._value\n\n    __str__",
        _in("test_text", "test_a_secret_shows_stars_however_it_is_printed"),
    ),
    Mutant(
        "nobody asks at the gate",
        "queue/carry.py",
        "alternates.pass_gate(self.locate, row.plan.snapshot, moving[0].file)",
        "pass",
        _in(
            "test_bay", "test_a_gate_that_is_shut_fails_the_model_before_anything_is_written"
        ),
    ),
    Mutant(
        "a sealed part is written to",
        "transfer/ranged.py",
        "            if self._sealed:\n                return False\n",
        "",
        _in("test_parts", "test_a_connection_that_is_late_writes_nothing_to_a_sealed_part"),
    ),
    Mutant(
        "bytes that were hashed are written again",
        "transfer/pieces.py",
        "        if not piece.shared:\n            return [(piece.at, upto)]",
        "        if True:\n            return [(piece.at, upto)]",
        _in(
            "faults/test_fresh_eyes",
            "TestPieces::test_a_slow_connection_does_not_write_over_what_a_faster_one_brought",
        ),
    ),
    Mutant(
        "wrong bytes are not put aside",
        "transfer/engine.py",
        "            order.part.replace(kept)",
        "            pass",
        _in("test_parts", "test_wrong_bytes_lie_in_quarantine_until_the_right_ones_came"),
    ),
    Mutant(
        "an answer may unpack without end",
        "http/client.py",
        "if len(body) > LARGEST_ANSWER:",
        "if False:",
        _in("test_http_client", "test_a_small_answer_that_unpacks_without_end_is_cut_off"),
    ),
)  # fmt: skip


def copied(folder: Path) -> Path:
    """A copy of the package; where it is imported from."""
    shutil.copytree(PACKAGE, folder / "modelbay", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def verdict_on(source: Path, selection: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """pytest's verdict on `selection` with the package that lies in `source`."""
    return subprocess.run(
        [sys.executable, "-P", "-B", "-c", CHILD, source / "modelbay/__init__.py", *selection],
        env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_with_every_guard_in_its_place_the_tests_are_green(tmp_path: Path):
    selection = dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests)

    done = verdict_on(copied(tmp_path), tuple(selection))

    assert done.returncode == GREEN, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_without_its_guard_the_suite_is_red(tmp_path: Path, mutant: Mutant):
    source = copied(tmp_path)
    module = source / "modelbay" / mutant.module
    text = module.read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"the guard moved: {mutant.old!r} in {mutant.module}"
    module.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")

    done = verdict_on(source, mutant.tests)

    assert done.returncode == RED, done.stdout[-4000:] + done.stderr[-2000:]
