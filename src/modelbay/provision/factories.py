"""`[sources.NAME]`: keys written once and used by many entries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelbay.provision.reading import Written, meant
from modelbay.refs import ModelRef
from modelbay.sources.base import Option
from modelbay.text import clean

LATER: Final = ("git-lfs", "git-xet", "mlflow", "oci", "ollama")
"""Sources that the format knows and this version may not have."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a provision file may name, as Bay tells: sources, their keys, how refs are read."""

    names: Sequence[str]
    options: Callable[[str], Sequence[Option]]
    parse: Callable[[str], ModelRef]
    factories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Those of the settings; a file's own come before them."""
    means: Callable[[str, Mapping[str, object]], ModelRef] | None = None
    """What keys mean to the source of that name. Raises UsageError where they mean nothing."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that `source = "…"` may say in one file."""

    known: Known
    factories: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, written: Written, known: Known) -> "Sources":
        """Raises FormatError for a factory without a type, or called like a source."""
        tables = written.document.get("sources", {})
        if not isinstance(tables, dict):
            written.refuse(
                ("sources",), "sources is not a table", 'write [sources.NAME], type = "…"'
            )
        for name, table in tables.items():
            at = ("sources", name)
            if name in {*known.names, *LATER}:
                written.refuse(
                    at,
                    f"a source factory is called {name!r}, which is a source itself",
                    f"give it a name of your own, like [sources.company-{name}]",
                )
            kind = table.get("type") if isinstance(table, dict) else None
            if not isinstance(kind, str):
                written.refuse(
                    at,
                    f"the source factory {clean(name, limit=80)} has no type",
                    'write type = "huggingface", or another source',
                )
            if kind not in {*known.names, *LATER}:
                written.refuse(
                    (*at, "type"),
                    f"the source factory {clean(name, limit=80)} is of the type "
                    f"{clean(kind, limit=80)!r}, which nobody knows",
                    meant(kind, {*known.names, *LATER}, _list_of(known)),
                )
        return cls(known, {**known.factories, **tables})

    def resolved(
        self, written: Written, at: Sequence[str], name: str
    ) -> tuple[str, Mapping[str, Any]]:
        """The source that `name` means, and the keys that come with it."""
        factory = self.factories.get(name)
        if factory is not None:
            kind = str(factory["type"])
            return kind, {key: value for key, value in factory.items() if key != "type"}
        if name not in {*self.known.names, *LATER}:
            words = {*self.known.names, *LATER, *self.factories}
            written.refuse(
                (*at, "source"),
                f"{clean('.'.join(at))} asks for the source {clean(name, limit=80)!r}, "
                "which nobody knows",
                meant(name, words, _list_of(self.known)),
            )
        return name, {}

    def short(self, text: str) -> tuple[str, dict[str, Any]] | None:
        """`NAME:rest` with a factory NAME, as the factory's name and the key that `rest` is."""
        name, colon, rest = text.partition(":")
        if not colon or name not in self.factories:
            return None
        kind = str(self.factories[name]["type"])
        if kind not in self.known.names:
            return name, {}
        options = self.known.options(kind)
        free = [option for option in options if option.name not in self.factories[name]]
        first = next((option for option in free if option.required), free[0])
        return name, {first.name: rest}


def _list_of(known: Known) -> str:
    return "the sources are " + ", ".join(known.names)
