"""Several processes, or threads, that want the same model at once."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modelbay.files import hash_file
from modelbay.library.base import Layout
from modelbay.library.dir import Dir
from modelbay.library.hf_cache import HfCache
from tests.layouts import a_snapshot, actions, never, plan_of

FILES = {"config.json": b"{}", **{f"{n}.safetensors": bytes([n]) * 4_000_000 for n in range(3)}}
CHILD = """
import sys, time
from pathlib import Path
from modelbay.files import hash_file
from modelbay.library import dir, hf_cache
from modelbay.plan import MOVES
from modelbay.planner import plan_file
from tests.layouts import a_snapshot, held
from tests.test_layout_shared import FILES
layout = {"dir": dir.Dir, "hf-cache": hf_cache.HfCache}[sys.argv[1]](Path(sys.argv[2]))
snapshot = a_snapshot(FILES)
layout.prepare(snapshot)
sys.stdin.read()
fetched = 0
for file in snapshot.files:
    with layout.moving(snapshot, file, pause=time.sleep, tell=lambda words: None):
        step = plan_file(snapshot, file, layout, held=held)
        if step.action in MOVES:
            step.part.write_bytes(FILES[file.path])
            layout.place(snapshot, step, hash_file(step.part))
            fetched += 1
layout.finish(snapshot)
print(fetched)
"""


def made(name: str, root: Path) -> Layout:
    return HfCache(root) if name == "hf-cache" else Dir(root)


@pytest.mark.parametrize("name", ["dir", "hf-cache"])
def test_processes_that_want_the_same_model_fetch_every_file_once(tmp_path: Path, name: str):
    children = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", CHILD, name, str(tmp_path)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()
        child.stdin = None
    said = [child.communicate(timeout=60) for child in children]

    assert [err for _, err in said] == ["", "", ""]
    assert sum(int(out) for out, _ in said) == len(FILES)
    assert set(actions(plan_of(a_snapshot(FILES), made(name, tmp_path))).values()) == {"keep"}


@pytest.mark.parametrize("name", ["dir", "hf-cache"])
def test_threads_place_the_files_of_one_model_side_by_side(tmp_path: Path, name: str):
    files = {f"f{number % 7}/{number}.txt": b"%d" % number for number in range(200)}
    layout, snapshot = made(name, tmp_path), a_snapshot(files)
    plan = plan_of(snapshot, layout)
    layout.prepare(snapshot)

    def work(number: int) -> None:
        step = plan.steps[number]
        with layout.moving(snapshot, step.file, pause=never, tell=never):
            step.part.write_bytes(files[step.file.path])
            layout.place(snapshot, step, hash_file(step.part))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(len(files))))
    layout.finish(snapshot)

    again = plan_of(snapshot, made(name, tmp_path))
    assert set(actions(again).values()) == {"keep"}
