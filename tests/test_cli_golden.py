"""Every format the command line prints, as text, from a Bay with known answers."""

import io
import json
import re
from pathlib import Path

import pytest

from modelbay.cli import run
from modelbay.errors import (
    Gated,
    ModelbayError,
    ModelNotFound,
    NoSpace,
    RefError,
    Unreachable,
    WrongBytes,
)
from modelbay.plan import Action
from modelbay.snapshot import Hit, Licence, Query
from tests.fakes import FakeBay, FakeEvent, model_file, ref, snapshot

FILES = [
    model_file("config.json", 1200),
    model_file("model-Q4_K_M.gguf", 4_500_000_000, "b"),
    model_file("model-Q8_0.gguf", 8_200_000_000, "c"),
    model_file("README.md", 5000, "d"),
]
MODEL = snapshot(
    "org/model", FILES, notes=("renamed from old/model",), page="https://hub.example/org/model"
)
ACTIONS = {"config.json": Action.KEEP, "model-Q8_0.gguf": Action.LINK}


class Ran:
    """One command line against `bay`; its streams with the machine's facts taken out."""

    def __init__(self, bay: FakeBay, *argv: str, **environ: str) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.root = str(bay.root)
        self.code = run(
            argv, environ={"HOME": self.root, **environ}, open_bay=bay, out=out, err=err
        )
        self.out, self.err = self._neutral(out.getvalue()), self._neutral(err.getvalue())

    def _neutral(self, text: str) -> str:
        text = text.replace(self.root, "/R")
        text = re.sub(r"[\d.]+ [kMGTP]B free", "9.9 GB free", text)
        return re.sub(r'"free": \d+', '"free": 9', text)


@pytest.fixture
def bay(tmp_path: Path) -> FakeBay:
    return FakeBay(tmp_path, {"org/model": MODEL}, actions=ACTIONS)


def test_get_says_the_plan_and_gives_the_folder(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model")

    assert ran.code == 0
    assert ran.out == "/R/org--model\n"
    assert (
        ran.err
        == """\
hf://org/model goes to /R/org--model (hf-cache, revision 0123456789ab)
  note: renamed from old/model
  fetch    5.0 kB  README.md
  keep     1.2 kB  config.json
  fetch    4.5 GB  model-Q4_K_M.gguf
  link     8.2 GB  model-Q8_0.gguf    the same bytes as hf://org/other
4 files, 12.7 GB: 2 to fetch, 1 to link, 1 kept; 4.5 GB to come, 9.9 GB free
fetching 4 files
Got 1 model, 4 files, 12.7 GB: 2 fetched, 1 linked, 1 kept in 2.0 s (2.3 GB/s)
"""
    )


def test_get_of_one_file_gives_the_file(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "--include", "*.json", "--progress", "none")

    assert ran.out == "/R/org--model/config.json\n"
    assert (
        ran.err
        == """\
hf://org/model goes to /R/org--model (hf-cache, revision 0123456789ab)
  note: renamed from old/model
  keep     1.2 kB  config.json
1 file, 1.2 kB: 1 kept, 9.9 GB free
Got 1 model, 1 file, 1.2 kB: 1 kept in 2.0 s
"""
    )


def test_dry_run_prints_the_plan_as_data_and_carries_nothing(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "--variant", "Q4_K_M", "--to", "models", "--dry-run")

    assert ran.code == 0
    assert ran.err == ""
    assert (
        ran.out
        == """\
hf://org/model goes to /R/org--model (dir, revision 0123456789ab)
  note: renamed from old/model
  fetch    5.0 kB  README.md
  keep     1.2 kB  config.json
  fetch    4.5 GB  model-Q4_K_M.gguf
3 files, 4.5 GB: 2 to fetch, 1 kept; 4.5 GB to come, 9.9 GB free
"""
    )
    assert bay.asked[0] == ("dir", Path("models"), None)


def test_dry_run_as_json(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "--include", "model-Q8*", "--dry-run", "--json")

    assert ran.err == ""
    assert (
        ran.out
        == """\
{
  "models": [
    {
      "ref": "hf://org/model",
      "source": "huggingface",
      "revision": "0123456789abcdef0123456789abcdef01234567",
      "licence": {
        "spdx": "apache-2.0",
        "raw": "apache-2.0",
        "link": null
      },
      "gated": "no",
      "page": "https://hub.example/org/model",
      "notes": [
        "renamed from old/model"
      ],
      "layout": "hf-cache",
      "root": "/R/org--model",
      "size": 8200000000,
      "bytes_to_fetch": 0,
      "unknown_sizes": 0,
      "files": [
        {
          "path": "model-Q8_0.gguf",
          "size": 8200000000,
          "digests": {
            "sha256": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
          },
          "action": "link",
          "target": "/R/org--model/model-Q8_0.gguf",
          "held": 0,
          "reason": "the same bytes as hf://org/other"
        }
      ]
    }
  ],
  "failed": [],
  "bytes_to_fetch": 0,
  "free": 9
}
"""
    )


def test_get_as_json_is_one_document_with_plan_and_result(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "--json", "--progress", "none")

    document = json.loads(ran.out)
    assert list(document) == ["models", "failed", "bytes", "seconds", "exit"]
    assert [file["action"] for file in document["models"][0]["files"]] == [
        "fetch",
        "keep",
        "fetch",
        "link",
    ]
    assert {key: document["models"][0][key] for key in ("fetched", "linked", "kept", "replaced", "blocked", "failed")} == {
        "fetched": 2, "linked": 1, "kept": 1, "replaced": 0, "blocked": 0, "failed": [],
    }  # fmt: skip
    assert (document["bytes"], document["seconds"], document["exit"]) == (4_500_005_000, 2.0, 0)


def test_a_failed_file_is_named_with_its_code(bay: FakeBay) -> None:
    bay.errors = {
        "model-Q4_K_M.gguf": WrongBytes("model-Q4_K_M.gguf: other bytes came", hint="try again")
    }

    ran = Ran(bay, "get", "org/model", "--progress", "none")

    assert ran.code == 5
    assert ran.out == ""
    assert ran.err.splitlines()[-3:] == [
        "failed: hf://org/model model-Q4_K_M.gguf (wrong-bytes, exit 5): model-Q4_K_M.gguf: other bytes came",
        "  → try again",
        "Got 0 of 1 model, 4 files, 12.7 GB: 1 fetched, 1 linked, 1 kept, 1 failed in 2.0 s (2.3 GB/s)",
    ]


def test_a_bug_in_one_file_exits_70_with_the_path_of_the_log(bay: FakeBay) -> None:
    caught = ModelbayError("model-Q4_K_M.gguf: LookupError: a bug of that source")
    caught.__cause__ = LookupError("a bug of that source")
    bay.errors = {"model-Q4_K_M.gguf": caught}

    ran = Ran(bay, "get", "org/model", "--json", MODELBAY_STATE_DIR=str(bay.root / "state"))

    log = next(bay.root.rglob("modelbay.log"))
    assert ran.code == 70
    assert "LookupError: a bug of that source" in log.read_text()
    assert str(log).replace(ran.root, "/R") in json.loads(ran.out)["error"]["hint"]


def test_an_error_that_all_files_share_is_named_once_for_the_model(bay: FakeBay) -> None:
    shut = Gated("hf://org/model is gated", hint="accept on https://hub.example/org/model")
    bay.actions = {}
    bay.errors = dict.fromkeys((file.path for file in FILES), shut)

    ran = Ran(bay, "get", "org/model", "--progress", "none")

    assert ran.code == 3
    assert ran.err.splitlines()[-3:] == [
        "failed: hf://org/model (gated, exit 3): hf://org/model is gated",
        "  → accept on https://hub.example/org/model",
        "Got 0 of 1 model, 4 files, 12.7 GB: 4 failed in 2.0 s (6.4 GB/s)",
    ]


def test_one_models_failure_does_not_stop_the_others(bay: FakeBay) -> None:
    bay.snapshots = {
        "org/model": MODEL,
        "org/gone": ModelNotFound("hf://org/gone is not on the Hub", hint="look"),
    }

    ran = Ran(bay, "get", "org/gone", "org/model", "--progress", "none")

    assert ran.code == 8
    assert ran.out == "/R/org--model\n"
    assert ran.err.splitlines()[-3:] == [
        "failed: hf://org/gone (model-not-found, exit 8): hf://org/gone is not on the Hub",
        "  → look",
        "Got 1 of 2 models, 4 files, 12.7 GB: 2 fetched, 1 linked, 1 kept in 2.0 s (2.3 GB/s)",
    ]


def test_an_only_model_that_fails_is_one_error(bay: FakeBay) -> None:
    bay.snapshots = {"org/gone": ModelNotFound("hf://org/gone is not on the Hub", hint="look")}

    ran = Ran(bay, "get", "org/gone")

    assert (ran.code, ran.out) == (8, "")
    assert ran.err == "error: hf://org/gone is not on the Hub\n  → look\n"


def test_several_models_that_all_fail_give_the_first_code_in_order(bay: FakeBay) -> None:
    bay.snapshots = {
        "a": Unreachable("hub.example cannot be reached"),
        "b": ModelNotFound("b is not there"),
    }

    ran = Ran(bay, "get", "a", "b", "--json")

    assert ran.code == 8
    assert json.loads(ran.out) == {
        "models": [],
        "failed": [
            {"ref": "hf://a", "path": None, "error": {"code": "unreachable", "message": "hub.example cannot be reached", "hint": ""}},
            {"ref": "hf://b", "path": None, "error": {"code": "model-not-found", "message": "b is not there", "hint": ""}},
        ],
        "error": {"code": "model-not-found", "message": "b is not there", "hint": ""},
    }  # fmt: skip


def test_a_ref_that_cannot_be_read_stops_everything_before_it_begins(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "a b", "--json")

    assert ran.code == 2
    assert ran.err == "error: 'a b' cannot be read as a model's name\n  → try hf://org/name\n"
    assert json.loads(ran.out)["error"] == {
        "code": RefError.code,
        "message": "'a b' cannot be read as a model's name",
        "hint": "try hf://org/name",
    }


def test_a_taken_target_is_named_and_exits_9(bay: FakeBay) -> None:
    bay.actions = {"README.md": Action.BLOCKED}

    ran = Ran(bay, "get", "org/model", "--progress", "none")

    assert ran.code == 9
    assert (
        ran.err.splitlines()[-2]
        == "blocked: hf://org/model README.md: a file that is not ours stands there"
    )
    assert "1 blocked" in ran.err.splitlines()[-1]


def test_json_progress_makes_every_line_of_stderr_an_event(bay: FakeBay) -> None:
    bay.script = [lambda run: run.said.append(FakeEvent("placed", "config.json", "it stands"))]
    bay.errors = {"README.md": WrongBytes("README.md: other bytes came", hint="try again")}

    ran = Ran(bay, "get", "org/model", "--progress", "json")

    events = [json.loads(line) for line in ran.err.splitlines()]
    assert [event["event"] for event in events] == [
        "plan", "planned", "progress", "placed", "progress", "failed", "done",
    ]  # fmt: skip
    assert all(event["message"] for event in events)
    assert events[0] == {
        "event": "plan",
        "message": "hf://org/model goes to /R/org--model (hf-cache, revision 0123456789ab)",
        "ref": "hf://org/model", "revision": MODEL.revision, "root": "/R/org--model",
        "files": 4, "size": 12_700_006_200, "bytes_to_fetch": 4_500_005_000,
    }  # fmt: skip
    assert events[-2]["error"] == {
        "code": "wrong-bytes",
        "message": "README.md: other bytes came",
        "hint": "try again",
    }
    assert events[-1]["exit"] == 5


def test_json_progress_makes_an_error_an_event(bay: FakeBay) -> None:
    bay.snapshots = {"a": ModelNotFound("a is not there", hint="look")}

    ran = Ran(bay, "get", "a", "--progress=json")

    assert json.loads(ran.err) == {
        "event": "error",
        "message": "error: a is not there",
        "error": {"code": "model-not-found", "message": "a is not there", "hint": "look"},
    }


def test_two_places_are_a_usage_error(bay: FakeBay) -> None:
    ran = Ran(bay, "get", "org/model", "--to", "x", "--category", "lora")

    assert ran.code == 2
    assert (
        ran.err
        == "error: --to and --category each name a place, and one was expected\n  → keep one of them\n"
    )


def test_show_prints_what_a_ref_means(bay: FakeBay) -> None:
    ran = Ran(bay, "show", "org/model")

    assert ran.code == 0
    assert ran.err == ""
    assert (
        ran.out
        == """\
hf://org/model
  revision  0123456789abcdef0123456789abcdef01234567
  licence   apache-2.0
  gate      none
  page      https://hub.example/org/model
  size      12.7 GB in 4 files
  variants  Q4_K_M 4.5 GB, Q8_0 8.2 GB
  note      renamed from old/model

  1.2 kB  sha256:aaaaaaaaaaaa  config.json
  4.5 GB  sha256:bbbbbbbbbbbb  model-Q4_K_M.gguf
  8.2 GB  sha256:cccccccccccc  model-Q8_0.gguf
  5.0 kB  sha256:dddddddddddd  README.md

get would go to /R/org--model (hf-cache)
4 files, 12.7 GB: 2 to fetch, 1 to link, 1 kept; 4.5 GB to come, 9.9 GB free
"""
    )


def test_show_as_json_has_files_variants_and_plan(bay: FakeBay) -> None:
    document = json.loads(Ran(bay, "show", "org/model", "--json").out)

    assert document["size"] == 12_700_006_200
    assert document["files"][0] == {
        "path": "config.json",
        "size": 1200,
        "digests": {"sha256": "a" * 64},
    }
    assert document["variants"] == {"Q4_K_M": 4_500_000_000, "Q8_0": 8_200_000_000}
    assert document["plan"]["bytes_to_fetch"] == 4_500_005_000


def test_show_of_a_gated_model_says_what_the_gate_asks(tmp_path: Path) -> None:
    gated = snapshot(
        "org/gated",
        [model_file("a.bin", None)],
        gated="manual",
        licence=Licence(raw="own", link="https://l.example"),
    )

    ran = Ran(FakeBay(tmp_path, {"org/gated": gated}), "show", "org/gated")

    assert "  gate      access to ask for on the page, granted by hand\n" in ran.out
    assert "  licence   own (https://l.example)\n" in ran.out
    assert "  ?  no digest  a.bin\n" in ran.out


HITS = [
    Hit(ref("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B", "Qwen", 1234, 5_600_000, "2026-01-02T03:04:05Z", "text-generation", "apache-2.0", "no"),
    Hit(ref("civ/1", "civitai", "civitai"), "Sneaky\x1b[2J title", None, None, 12, None, None, None, "auto", private=True),
]  # fmt: skip


def test_search_prints_a_line_a_hit(bay: FakeBay) -> None:
    bay.hits = HITS

    ran = Ran(bay, "search", "qwen")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "hf://Qwen/Qwen3-0.6B  ↓  5.6M  ♥  1.2k  2026-01-02  text-generation  apache-2.0",
        "civitai://civ/1       ↓    12  ♥     -                                           gated  private  Sneaky␛[2J title",
    ]


def test_search_as_json(bay: FakeBay) -> None:
    bay.hits = [HITS[0], Unreachable("civitai.com cannot be reached", hint="try later")]

    ran = Ran(bay, "search", "qwen", "--json")

    assert ran.code == 0
    assert ran.err == "warning: civitai.com cannot be reached\n  → try later\n"
    assert json.loads(ran.out) == {
        "hits": [
            {
                "ref": "hf://Qwen/Qwen3-0.6B", "title": "Qwen/Qwen3-0.6B", "author": "Qwen", "likes": 1234,
                "downloads": 5_600_000, "updated": "2026-01-02T03:04:05Z", "task": "text-generation",
                "licence": "apache-2.0", "gated": "no", "private": False, "tags": [], "source": "huggingface",
            }
        ],
        "errors": [{"code": "unreachable", "message": "civitai.com cannot be reached", "hint": "try later"}],
    }  # fmt: skip


def test_search_hands_every_filter_to_the_bay(bay: FakeBay) -> None:
    Ran(bay, "search", "q", "--source", "a", "--source", "b", "--limit", "7", "--author", "me", "--filter", "gguf",
        "--task", "t", "--no-gated", "--sort", "likes")  # fmt: skip

    assert bay.asked[0] == (Query("q", 7, "me", ("gguf",), "t", False, "likes"), ("a", "b"))


def test_search_fails_when_every_source_is_down(bay: FakeBay) -> None:
    bay.hits = [Unreachable("a cannot be reached")]

    ran = Ran(bay, "search", "q")

    assert (ran.code, ran.out) == (6, "")
    assert ran.err == "warning: a cannot be reached\n"


def test_search_that_finds_nothing_says_so_and_succeeds(bay: FakeBay) -> None:
    ran = Ran(bay, "search", "nothing-like-it")

    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "nothing was found for 'nothing-like-it'\n"


def test_a_bug_exits_70_with_the_path_of_the_log(bay: FakeBay) -> None:
    bay.snapshots = {"a": ZeroDivisionError("division by zero")}

    ran = Ran(bay, "show", "a", "--json", MODELBAY_STATE_DIR=str(bay.root / "state"))

    log = next(bay.root.rglob("modelbay.log"))
    assert ran.code == 70
    assert ran.err == (
        "error: a bug in modelbay: ZeroDivisionError: division by zero\n"
        f"  → the log with its details: {str(log).replace(ran.root, '/R')}\n"
    )
    assert json.loads(ran.out)["error"]["code"] == "error"


def test_a_full_disk_exits_7(bay: FakeBay) -> None:
    bay.snapshots = {
        "a": NoSpace("/R/a could not be written: the file system is full", hint="free some room")
    }

    assert Ran(bay, "get", "a").code == 7


def test_faults_of_the_settings_come_before_everything(bay: FakeBay) -> None:
    (bay.root / "c.toml").write_text("jobs = 0\n", encoding="utf-8")

    ran = Ran(bay, "show", "org/model", MODELBAY_CONFIG=str(bay.root / "c.toml"))

    assert ran.code == 2
    assert ran.err.startswith(
        "error: /R/c.toml:1:1: jobs is 0, expected a whole number from 1 to 64\n"
    )


def test_unknown_settings_are_warned_about_once(bay: FakeBay) -> None:
    (bay.root / "c.toml").write_text("job = 1\n", encoding="utf-8")

    ran = Ran(bay, "show", "org/model", MODELBAY_CONFIG=str(bay.root / "c.toml"))

    assert ran.code == 0
    assert ran.err == "warning: /R/c.toml:1:1: nobody knows the key 'job'; did you mean 'jobs'?\n"


def test_binary_units_are_used_when_the_settings_say_so(bay: FakeBay) -> None:
    assert "12.7 GB" in Ran(bay, "show", "org/model").out
    assert "11.8 GiB in 4 files" in Ran(bay, "show", "org/model", MODELBAY_UNITS="binary").out


def test_ascii_output_has_no_character_above_tilde(bay: FakeBay) -> None:
    bay.hits = [HITS[0], Unreachable("x", hint="y")]

    ran = Ran(bay, "search", "q", MODELBAY_ASCII="1")

    assert (ran.out + ran.err).isascii()
