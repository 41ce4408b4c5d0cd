"""What one entry may say together: layout, names, pin, credentials."""

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

from modelbay.errors import FormatError, RefError, UnsafeName
from modelbay.provision.entry import At, Entry
from modelbay.provision.keys import (
    LAYOUTS,
    UNPACKED_IN,
    check_auth,
    check_headers,
    names_a_secret,
)
from modelbay.provision.pins import Pin, read_pin
from modelbay.provision.reading import Written, meant
from modelbay.refs import check_address
from modelbay.safepath import SafeRelPath
from modelbay.text import clean


def checked(written: Written, at: At, entry: Entry) -> Entry:
    """`entry` with its layout and its pin. Raises FormatError for what cannot be."""
    layout = str(entry.keys.get("layout", "folders"))
    if layout not in LAYOUTS:
        written.refuse(
            (*at, "layout"),
            f"{clean('.'.join(at))} asks for the layout {clean(layout, limit=80)!r}, which nobody "
            "knows",
            meant(layout, LAYOUTS, "write one of " + ", ".join(LAYOUTS)),
        )
    if layout == "ollama" and entry.source != "ollama":
        written.refuse(
            (*at, "layout"),
            f"{clean('.'.join(at))} is of {entry.source}, and Ollama's store holds models of its "
            "own registries alone",
            'take layout out, or write source = "ollama"',
        )
    if "auth" in entry.keys:
        check_auth(written, at, entry.auth)
    check_headers(written, at, entry.headers)
    _check_urls(written, at, entry)
    _check_names(written, at, entry, layout)
    if entry.extracts and (layout not in UNPACKED_IN or entry.filename is not None):
        what = "a filename" if entry.filename is not None else f"the layout {layout}"
        written.refuse(
            (*at, "extract"),
            f"{clean('.'.join(at))} unpacks an archive, which {what} is of no use for",
            "take one of them out: its files keep their names, in a folder of their own",
        )
    frozen = MappingProxyType(dict(entry.keys))
    pin, notes = _pin(written, at, entry), tuple(_notes(written, at, entry))
    return replace(entry, keys=frozen, layout=layout, pin=pin, notes=notes)


def _check_urls(written: Written, at: At, entry: Entry) -> None:
    for url in entry.keys.get("urls", ()):
        try:
            check_address(url)
        except RefError as error:
            raise FormatError(f"{written.where(*at, 'urls')}: {error}", hint=error.hint) from error


def _check_names(written: Written, at: At, entry: Entry, layout: str) -> None:
    for key, read, allowed in (
        ("dir", SafeRelPath.parse, layout == "dir"),
        ("filename", SafeRelPath.component, layout not in {"hf-cache", "ollama"}),
    ):
        value = entry.keys.get(key)
        if value is None:
            continue
        if not allowed:
            written.refuse(
                (*at, key),
                f"{clean('.'.join(at))} has {key}, which the layout {layout} has no use for",
                f'take {key} out, or write layout = "dir"',
            )
        try:
            read(value)
        except UnsafeName as error:
            raise FormatError(
                f"{written.where(*at, key)}: {clean('.'.join(at))}.{key}: {error}",
                hint=f"write {key} as plain names, without .. and other marks",
            ) from error
    if "file" in entry.keys and "files" in entry.keys:
        written.refuse(
            (*at, "files"),
            f"{clean('.'.join(at))} has both file and files",
            "keep one of them",
        )


def _pin(written: Written, at: At, entry: Entry) -> Pin | None:
    text = entry.keys.get("hash")
    if text is None:
        return None
    try:
        return read_pin(str(text))
    except FormatError as error:
        raise FormatError(f"{written.where(*at, 'hash')}: {error}", hint=error.hint) from error


def _notes(written: Written, at: At, entry: Entry) -> Iterator[str]:
    """What a lock cannot carry, and how to move it; what is not used yet."""
    for header in entry.headers:
        if names_a_secret(header):
            yield (
                f"{written.where(*at)}: {clean(entry.id)} has {clean(header, limit=80)} in "
                "headers, which a lock cannot carry: write "
                f'auth = {{ header_env = {{ {clean(header, limit=80)} = "VAR" }} }} instead'
            )
    if "token_file" in entry.auth:
        yield (
            f"{written.where(*at)}: {clean(entry.id)} has a token_file, which a lock cannot "
            'carry: write auth = { token_env = "VAR" } and set VAR_FILE to the file'
        )
