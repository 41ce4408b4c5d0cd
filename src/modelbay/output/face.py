"""The two streams, the environment and the door to a Bay, as every command gets them."""

import io
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from modelbay.config import Settings, read_settings
from modelbay.output.protocols import OpenBay
from modelbay.output.words import Words

if TYPE_CHECKING:
    from modelbay.bay import Bay
    from modelbay.output.log import Log

_TRUE = frozenset({"1", "true", "yes", "on"})


@dataclass(slots=True)
class Face:
    """`out` is for data, `err` for conversation."""

    environ: Mapping[str, str]
    open_bay: OpenBay
    out: TextIO
    err: TextIO
    events: bool = False
    """`--progress json`: everything on stderr is one JSON object a line."""
    log: "Log | None" = None
    """Gets every notice too, while a command keeps one."""
    _settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """Read once, when first asked for; warnings are said then. Raises UsageError."""
        if self._settings is None:
            self._settings = read_settings(self.environ)
            for warning in self._settings.warnings:
                self.notice("warning", f"warning: {warning}")
        return self._settings

    @property
    def words(self) -> Words:
        settings = self.settings
        return Words(settings.units == "binary", self.is_ascii(settings.ascii))

    def plain_words(self) -> Words:
        """Words that need no settings: for errors, of which the settings may be one."""
        return Words(ascii=self.is_ascii(None))

    def is_ascii(self, chosen: bool | None) -> bool:  # noqa: FBT001 - the setting's own three values
        if chosen is not None:
            return chosen
        encoding = (getattr(self.err, "encoding", None) or "utf-8").lower().replace("-", "")
        return encoding != "utf8" or self.environ.get("TERM") in {"linux", "dumb"}

    def bay(self, *, workspace: Path | None = None, root: Path | None = None) -> "Bay":
        """A Bay with the settings in force. Raises UsageError."""
        return self.open_bay(
            settings=self.settings, environ=self.environ, workspace=workspace, root=root
        )

    def give(self, *lines: str) -> None:
        """Data. A reader that went away ends the program quietly (BrokenPipeError)."""
        for line in lines:
            self.out.write(line + "\n")

    def give_json(self, document: object) -> None:
        """One document; ASCII, so that no name in it can steer a terminal."""
        self.give(json.dumps(document, indent=2))

    def say(self, *lines: str) -> None:
        """Conversation. Nobody listening is no reason to stop the work."""
        try:
            for line in lines:
                self.err.write(line + "\n")
            self.err.flush()
        except (OSError, ValueError):
            forget(self.err)
            self.err = _Nobody()

    def notice(self, event: str, *lines: str, **facts: Any) -> None:
        """Conversation that a program may follow too: `lines`, or an event with the first."""
        if self.log is not None:
            self.log.write(event, *lines)
        if self.events:
            self.say_event(event, lines[0], **facts)
        else:
            self.say(*lines)

    def say_event(self, event: str, message: str, **facts: Any) -> None:
        """One line of `--progress json`."""
        self.say(json.dumps({"event": event, "message": message, **facts}))

    def asks(self) -> bool:
        """Whether there is a person to ask."""
        return sys.stdin.isatty() and self.err.isatty()

    def draws(self) -> bool:
        """Whether stderr is a terminal on which lines may be drawn over."""
        ci = self.environ.get("CI", "").strip().lower() not in {"", "0", "false", "no"}
        return self.err.isatty() and not ci and self.environ.get("TERM", "dumb") != "dumb"

    def is_on(self, variable: str) -> bool:
        return self.environ.get(variable, "").strip().lower() in _TRUE


class _Nobody(io.StringIO):
    """Who listens once stderr is closed."""

    def write(self, text: str) -> int:
        return len(text)


def forget(stream: TextIO) -> None:
    """Closes a stream whose reader is gone, so that the interpreter's end stays quiet."""
    with suppress(OSError, ValueError):
        stream.close()
