"""The tables and short forms below `[models]`, read as entries (formats.md §2)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelbay.errors import FormatError, ModelbayError, UnsafeName, UsageError
from modelbay.provision.checks import checked
from modelbay.provision.entry import At, Entry, Later
from modelbay.provision.factories import Sources
from modelbay.provision.keys import read_keys
from modelbay.provision.reading import Written
from modelbay.refs import ModelRef
from modelbay.safepath import SafeRelPath
from modelbay.text import clean

_LATER_SCHEMES: Final = {
    "mlflow": "mlflow",
    "models": "mlflow",
    "git+https": "git-lfs",
    "git+ssh": "git-lfs",
    "git+file": "git-lfs",
    "xet": "git-xet",
}
_PAGES_ONLY: Final = frozenset({"gdrive"})
"""Sources whose share links are no addresses of files."""


def entries_of(written: Written, sources: Sources) -> Iterator[Entry | Later]:
    """The entries as they stand. Raises FormatError."""
    models = written.document.get("models")
    if not isinstance(models, dict) or not models:
        written.refuse(
            ("models",), "it names no model", "write a table such as [models.llm.qwen] with source"
        )
    for category, several in models.items():
        if not isinstance(several, dict):
            written.refuse(
                ("models", category),
                f"models.{clean(category)} is not a table of models",
                f"write [models.{clean(category)}.NAME]",
            )
        for name, value in several.items():
            at = ("models", category, name)
            _refuse_unsafe(written, at)
            yield _entry(written, at, value, sources)


def _refuse_unsafe(written: Written, at: At) -> None:
    for part in at[1:]:
        try:
            SafeRelPath.component(part)
        except UnsafeName:
            written.refuse(
                at,
                f"{clean(part, limit=160)!r} cannot be the name of a folder",
                "choose a category and a name without / and other marks",
            )


def _entry(written: Written, at: At, value: object, sources: Sources) -> Entry | Later:
    ident = f"{at[1]}/{at[2]}"
    ref = None
    if isinstance(value, str):
        later = _LATER_SCHEMES.get(value.partition(":")[0])
        short = sources.short(value)
        if short is None and later is not None:
            return Later(ident, later)
        if short is None:
            ref = _ref(written, at, value, sources)
            short = (ref.source, {})
        value = {"source": short[0], **short[1]}
    if not isinstance(value, dict):
        written.refuse(
            at, f"{'.'.join(at)} is no model", "write a table with source, or a ref in quotes"
        )
    named, own = _source_of(written, at, value)
    source, shared = sources.resolved(written, at, named)
    source = _whose_page(source, {**shared, **own}, sources)
    if source not in sources.known.names:
        return Later(ident, source)
    options = sources.known.options(source)
    keys = read_keys(written, ("sources", named), shared, options)
    keys |= read_keys(written, at, own, options)
    if ref is None:
        _refuse_missing(written, at, keys, source, sources)
        _refuse_meaningless(written, at, Entry(ident, source, keys), sources)
    return checked(written, at, Entry(ident, source, keys, ref=None if ref is None else str(ref)))


def _whose_page(source: str, keys: Mapping[str, Any], sources: Sources) -> str:
    """`source`, or the one that alone can fetch what the page at its `url` shows."""
    if source != "url" or not isinstance(keys.get("url"), str):
        return source
    try:
        found = sources.known.parse(keys["url"]).source
    except ModelbayError:
        return source
    return found if found in _PAGES_ONLY else source


def _ref(written: Written, at: At, text: str, sources: Sources) -> ModelRef:
    try:
        return sources.known.parse(text)
    except ModelbayError as error:
        raise FormatError(f"{written.where(*at)}: {error}", hint=error.hint) from error


def _source_of(written: Written, at: At, table: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name that stands for the source, and the other keys. `source.huggingface.repo = "…"`
    is the same as `source = "huggingface"` and `repo = "…"`.
    """
    own = {key: value for key, value in table.items() if key != "source"}
    named = table.get("source")
    if isinstance(named, dict) and len(named) == 1:
        ((name, inner),) = named.items()
        if isinstance(inner, dict):
            return name, {**inner, **own}
    if named is None and "url" in own:
        return "url", own
    if not isinstance(named, str):
        written.refuse(
            at,
            f"{clean('.'.join(at))} names no source",
            'write source = "huggingface", or another source',
        )
    return named, own


def _refuse_meaningless(written: Written, at: At, entry: Entry, sources: Sources) -> None:
    if sources.known.means is None:
        return
    try:
        sources.known.means(entry.source, entry.original)
    except UsageError as error:
        raise FormatError(f"{written.where(*at)}: {error}", hint=error.hint) from error


def _refuse_missing(
    written: Written, at: At, keys: Mapping[str, Any], source: str, sources: Sources
) -> None:
    for option in sources.known.options(source):
        if option.required and option.name not in keys:
            written.refuse(
                at,
                f"{clean('.'.join(at))} has no {option.name}, which {source} needs",
                f'write {option.name} = "…": {option.help}',
            )
