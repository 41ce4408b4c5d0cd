"""The settings in force: command line, then environment, then `config.toml`, then default.

The file is only read here; what edits it keeps its comments and lives elsewhere. A value
that cannot be read stops the program at its line; a key that nobody knows is only spoken of.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from modelbay import paths
from modelbay.config.keys import ENDPOINT_VARIABLES, KEYS, Key, Settings
from modelbay.config.position import position
from modelbay.config.values import READERS, typed
from modelbay.errors import FormatError, UsageError
from modelbay.text import clean

LARGEST_FILE: Final = 1 << 20
_BARE_ORIGINS: Final = frozenset({"civitai", "ollama", "gdrive"})


def read_settings(
    environ: Mapping[str, str], *, given: Mapping[str, str | None] | None = None
) -> Settings:
    """The settings in force. `given` are the command line's, as text; None is not given.

    Raises FormatError (file:line:column, and the nearest valid value) and UsageError.
    """
    file = paths.config_file(environ)
    reader = _Reader(file, environ)
    reader.take_file(named="MODELBAY_CONFIG" in environ)
    reader.take_environment()
    for name, value in (given or {}).items():
        if value is not None:
            reader.take_text(_BY_NAME[name], value, "command line")
    return Settings(
        **reader.values, origins=reader.origins, file=file, warnings=tuple(reader.warnings)
    )


_BY_NAME: Final = {key.name: key for key in KEYS}


class _Reader:
    def __init__(self, file: Path, environ: Mapping[str, str]) -> None:
        self.file, self.environ = file, environ
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.warnings: list[str] = []

    def take_file(self, *, named: bool) -> None:
        text = file_text(self.file)
        if text is None:
            if named:
                self.warnings.append(f"{clean(self.file)} ($MODELBAY_CONFIG) is not there")
            return
        for name, value in parsed(text, self.file).items():
            where = _where(self.file, text, name)
            key = _BY_NAME.get(name)
            if key is None:
                self.warnings.append(_unknown(name, where, _BY_NAME))
            elif key.kind == "table":
                self._take_table(key, value, text)
            else:
                self._set(key, value, where)

    def take_environment(self) -> None:
        for key in KEYS:
            for variable in (*key.variables, f"MODELBAY_{key.name.upper()}"):
                if key.kind != "table" and (value := self.environ.get(variable)):
                    self.take_text(key, value, f"${variable}")
        endpoints = dict(self.values.get("endpoints", {}))
        for source, variables in ENDPOINT_VARIABLES.items():
            for variable in (f"MODELBAY_{source.upper()}_ENDPOINT", *reversed(variables)):
                if value := self.environ.get(variable):
                    endpoints[source] = self._endpoint(source, value, f"${variable}")
        if endpoints:
            self.values["endpoints"] = endpoints

    def take_text(self, key: Key, text: str, where: str) -> None:
        """A value from the environment or the command line."""
        self._set(key, typed(key, text), where)

    def _set(self, key: Key, value: object, where: str) -> None:
        try:
            read = READERS[key.kind](key, value)
        except ValueError as error:
            refuse(where, key.name, value, str(error), hint=nearest_choice(key, value))
        if isinstance(read, str) and key.kind == "path":
            read = paths.expand(read, self.environ)
            if not read.is_absolute():
                base = self.file.parent if where.startswith(str(self.file)) else Path.cwd()
                read = base / read
        if (key.name, read) == ("links", "symlink"):
            self.warnings.append(
                f'{clean(where)}: links = "symlink" is as "auto" in this version: no layout here '
                "may hold links to files of other programs"
            )
        self.values[key.name] = read
        self.origins[key.name] = where

    def _take_table(self, key: Key, value: object, text: str) -> None:
        if not isinstance(value, dict):
            refuse(_where(self.file, text, key.name), key.name, value, f"a table [{key.name}]")
        chosen: dict[str, Any] = {}
        for name, inner in value.items():
            where = _where(self.file, text, key.name, name)
            full = f"{key.name}.{name}"
            if key.name == "sources":
                if not isinstance(inner, dict) or not isinstance(inner.get("type"), str):
                    refuse(where, full, inner, 'a table with `type = "…"`')
                chosen[name] = inner
            elif not isinstance(inner, str):
                refuse(where, full, inner, "text in quotation marks")
            elif key.name == "endpoints":
                if name not in ENDPOINT_VARIABLES:
                    self.warnings.append(_unknown(full, where, ENDPOINT_VARIABLES))
                chosen[name] = self._endpoint(name, inner, where)
            else:
                chosen[name] = inner
            self.origins.setdefault(full, where)
        self.values[key.name] = chosen

    def _endpoint(self, source: str, text: str, where: str) -> str:
        self.origins[f"endpoints.{source}"] = where
        return endpoint(source, text, where)


def endpoint(source: str, text: str, where: str) -> str:
    """The address of `source` that `text`, which stands at `where`, means. Raises FormatError,
    and UsageError for one with a password.
    """
    name = f"endpoints.{source}"
    if source == "mlflow" and text.startswith("databricks"):
        return text
    try:
        parts = urlsplit(text.strip())
        bad_port = parts.port == 0
    except ValueError:
        refuse(where, name, "an unreadable address", "https://host")
    if parts.username or parts.password:
        raise UsageError(
            f"{where}: {name} carries a user name or password",
            hint="take it out: credentials belong in the environment or the keyring",
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or bad_port:
        refuse(where, name, text, "an address like https://host")
    if parts.query or parts.fragment or (source in _BARE_ORIGINS and parts.path.strip("/")):
        refuse(where, name, text, "an address without path or query")
    return text.strip().rstrip("/")


def file_text(file: Path) -> str | None:
    """What the settings' file says; None when there is none. Raises FormatError."""
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FormatError(
            f"{clean(file)} could not be read: {error.strerror}",
            hint="make it readable, or name another with $MODELBAY_CONFIG",
        ) from error
    if len(content) > LARGEST_FILE:
        raise FormatError(
            f"{clean(file)} is larger than 1 MiB, settings were expected",
            hint="name the right file with $MODELBAY_CONFIG",
        )
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"{clean(file)}:{line}: a byte that is not UTF-8 was found",
            hint="save the file as UTF-8",
        ) from error


def parsed(text: str, file: Path) -> dict[str, Any]:
    """Raises FormatError with line and column."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        matched = re.search(r"(.*) \(at line (\d+), column (\d+)\)", str(error))
        what, line, column = matched.groups() if matched else (str(error), "1", "1")
        raise FormatError(
            f"{clean(file)}:{line}:{column}: {clean(what)}",
            hint='settings are TOML: one `key = value` a line, texts in "quotation marks"',
        ) from error


def _where(file: Path, text: str, *keys: str) -> str:
    line, column = position(text, keys)
    return f"{file}:{line}:{column}"


def _unknown(name: str, where: str, known: Iterable[str]) -> str:
    near = get_close_matches(name.rpartition(".")[2], list(known), n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return f"{clean(where)}: nobody knows the key {clean(name, limit=80)!r}{meant}"


def nearest_choice(key: Key, value: object) -> str:
    """A hint with the valid word that is nearest to `value`, or nothing."""
    near = get_close_matches(str(value), key.choices, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


def refuse(where: str, name: str, value: object, expected: str, *, hint: str = "") -> NoReturn:
    """Raises FormatError for a `value` that is not what was `expected` at `where`."""
    raise FormatError(
        f"{clean(where)}: {clean(name)} is {clean(repr(value), limit=80)}, expected {expected}",
        hint=hint or f"write {name} as {expected}, or take it out for the default",
    )
