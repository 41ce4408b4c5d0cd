"""The Python doors: Bay for programs that wait, ProvisioningSystem for those with an event loop."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.config import Settings
from modelbay.errors import FormatError, ModelNotFound
from modelbay.plan import Action
from modelbay.provision import ProvisioningSystem
from modelbay.serve import Generated, Hub, MemoryShelf

README = Path(__file__).parents[1] / "README.md"
SIZE = 24 << 20
TEXT = """\
[models.checkpoints.large]
source = "huggingface"
repo = "org/large"
file = "model.bin"

[models.lora.made-up]
source = "mock"
files = ["made-up.safetensors"]
"""
PUBLIC = '[models.lora.x]\nsource = "mock"\nfiles = ["x.safetensors"]\n'


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    shelf.add("org/large", {"model.bin": Generated(SIZE, seed="large")})
    with Hub(shelf) as hub:
        yield hub


def system(hub: Hub, home: Path, **variables: str) -> ProvisioningSystem:
    environ = {
        "PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": hub.endpoint, **variables
    }  # fmt: skip
    return ProvisioningSystem(workspace_dir=str(home / "workspace"), environ=environ)


def asked(folder: Path, text: str = TEXT) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


@contextmanager
def server(text: str) -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/config.toml"
        listening.shutdown()


def test_a_file_is_provisioned_while_the_loop_goes_on(hub: Hub, tmp_path: Path):
    async def main() -> tuple[int, int]:
        ticks = 0
        provisioning = asyncio.create_task(
            system(hub, tmp_path).provision_from_file(asked(tmp_path))
        )
        while not provisioning.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return (await provisioning).bytes, ticks

    fetched, ticks = asyncio.run(main())

    models = tmp_path / "workspace/sdnext/models"
    content = b"".join(Generated(SIZE, seed="large").pieces(0, SIZE))
    assert (models / "Stable-diffusion/model.bin").read_bytes() == content
    assert (models / "Lora/made-up.safetensors").is_file()
    assert fetched >= SIZE
    assert ticks > 2
    assert (tmp_path / "config.lock.toml").is_file()


def test_a_file_from_an_address_is_provisioned(hub: Hub, tmp_path: Path):
    with server(PUBLIC) as url:
        report = asyncio.run(system(hub, tmp_path).provision_from_url(url, allow_http=True))

    assert [outcome.fetched for outcome in report.outcomes] == [1]
    assert (tmp_path / "workspace/sdnext/models/Lora/x.safetensors").is_file()


def test_what_goes_wrong_is_raised_where_it_is_awaited(hub: Hub, tmp_path: Path):
    with pytest.raises(FormatError, match=r"config\.toml:1:2: it names no model|names no model"):
        asyncio.run(system(hub, tmp_path).provision_from_file(asked(tmp_path, "folders = 'plain'")))
    text = TEXT.replace("org/large", "org/none")
    with pytest.raises(ModelNotFound):
        asyncio.run(system(hub, tmp_path).provision_from_file(asked(tmp_path, text)))
    assert (tmp_path / "workspace/sdnext/models/Lora/made-up.safetensors").is_file()


def part_of(home: Path) -> Path | None:
    return next(home.glob("workspace/sdnext/models/.modelbay/parts/*.part"), None)


def test_cancelling_pauses_within_two_seconds_and_the_next_call_goes_on(hub: Hub, tmp_path: Path):
    path = asked(tmp_path)

    async def cancelled() -> float:
        slow = system(hub, tmp_path, MODELBAY_BANDWIDTH="6MB/s")
        task = asyncio.create_task(slow.provision_from_file(path))
        while (part := part_of(tmp_path)) is None or part.stat().st_blocks * 512 < SIZE // 4:
            assert not task.done()
            await asyncio.sleep(0.02)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    took = asyncio.run(cancelled())
    part = part_of(tmp_path)
    assert part is not None
    held = part.stat().st_blocks
    with Bay.open(
        environ={"HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint},
        workspace=tmp_path / "workspace",
    ) as bay:
        actions = [step.action for plan in bay.prepare_sync(path).plans for step in plan.steps]
    report = asyncio.run(system(hub, tmp_path).provision_from_file(path))

    assert took < 2
    assert held > 0
    assert Action.RESUME in actions
    assert report.bytes < SIZE
    assert part_of(tmp_path) is None


def test_importing_the_package_of_provision_files_loads_no_client(tmp_path: Path):
    code = (
        "import sys, modelbay.provision; print('modelbay.bay' in sys.modules);"
        "modelbay.provision.ProvisioningSystem; print('modelbay.bay' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=30
    )

    assert ran.stdout.split() == ["False", "True"]


def readme_block() -> str:
    found = re.search(r"## From Python\n.*?```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_readmes_example_runs_as_it_stands(hub: Hub, tmp_path: Path):
    workspace = tmp_path / "workspace"
    asked(tmp_path, PUBLIC)
    with Bay.open(settings=Settings(), environ={"HOME": str(tmp_path)}) as bay:
        bay.lock(tmp_path / "config.toml", tmp_path / "lock.toml")
    code = readme_block().replace('"/workspace"', repr(str(workspace)))
    script = tmp_path / "example.py"
    script.write_text(code)

    ran = subprocess.run(
        [sys.executable, "-P", str(script)], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint},
        check=False, timeout=60,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    file = workspace / "sdnext/models/Lora/x.safetensors"
    assert hashlib.sha256(file.read_bytes()).hexdigest() in (tmp_path / "lock.toml").read_text()
    assert "kept" in ran.stdout
