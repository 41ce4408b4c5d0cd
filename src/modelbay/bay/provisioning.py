"""Provisioning for programs that run an event loop: the same sync, in a thread.

system = ProvisioningSystem(workspace_dir="/workspace")
report = await system.provision_from_file("/path/config.toml")
"""

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Unpack

from modelbay.bay import Bay
from modelbay.bay.syncing import Options
from modelbay.config import Settings
from modelbay.errors import Interrupted
from modelbay.queue import Report

_POLL_SECONDS: Final = 0.1
_LONGEST_GOODBYE: Final = 1.9
"""Seconds in which a cancelled sync puts down what it holds. A question to a source that is on
its way is not waited for longer: it writes nothing.
"""


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise Interrupted("stopped; what arrived is kept", hint="call it again to go on")


class ProvisioningSystem:
    """Brings models of provision files and locks into `workspace_dir`; without one, where
    `modelbay sync` would. `environ` (default: this process's) has tokens and endpoints.
    """

    def __init__(
        self,
        workspace_dir: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._workspace = None if workspace_dir is None else Path(workspace_dir)
        self._settings = settings
        self._environ = environ

    async def provision_from_url(self, url: str, **options: Unpack[Options]) -> Report:
        """Syncs the file at an address, which is not trusted unless `trust` names its digest.
        Raises ModelbayError, after everything that could be brought was brought.

        Cancelling pauses: within 2 s nothing moves any more, and the next call goes on where
        this one stopped.
        """
        return await self._provisioned(url, options)

    async def provision_from_file(
        self, path: str | os.PathLike[str], **options: Unpack[Options]
    ) -> Report:
        """Syncs the file at `path`. Raises and is cancelled as `provision_from_url`."""
        return await self._provisioned(os.fspath(path), options)

    async def _provisioned(self, where: str, options: Options) -> Report:
        loop, done, stop = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
        answers: list[Report | BaseException] = []

        def work() -> None:
            try:
                answers.append(self._synced(where, options, stop))
            except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
                answers.append(error)
            # A loop that was left without waiting is closed by now.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=work, name="modelbay-provisioning", daemon=True).start()
        try:
            await done.wait()
        except asyncio.CancelledError:
            stop.set()
            with suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), _LONGEST_GOODBYE)
            raise
        (answer,) = answers
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _synced(self, where: str, options: Options, stop: threading.Event) -> Report:
        with Bay.open(
            settings=self._settings, environ=self._environ, workspace=self._workspace
        ) as bay:
            syncing = bay.prepare_sync(where, **options)
            _check(stop)
            run = syncing.carry()
            while not run.wait(_POLL_SECONDS):
                if stop.is_set():
                    run.stop()
                    _check(stop)
            finished = syncing.finish(run)
        if finished.deciding is not None:
            raise finished.deciding
        return finished.report
