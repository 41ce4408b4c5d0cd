"""What a person looks for as CivitAI is asked for it, and its models as hits."""

from difflib import get_close_matches
from typing import Final

from modelbay.errors import UsageError
from modelbay.snapshot import Hit, Query
from modelbay.sources import civitai_refs as refs
from modelbay.sources.civitai_kinds import TYPES, types_of
from modelbay.text import clean
from modelbay.wire.civitai_answers import Model

_PAGE: Final = 100
_SORTS: Final = {
    "downloads": "Most Downloaded",
    "likes": "Most Liked",
    "rating": "Highest Rated",
    "discussed": "Most Discussed",
    "collected": "Most Collected",
    "images": "Most Images",
    "updated": "Newest",
    "newest": "Newest",
    "oldest": "Oldest",
}
_PERIODS: Final = {
    "all": "AllTime",
    "year": "Year",
    "month": "Month",
    "week": "Week",
    "day": "Day",
}
_NSFW: Final = {"nsfw": "true", "nsfw:true": "true", "nsfw:false": "false"}
_KEYED: Final = ("type", "base", "period", "nsfw", "checkpoint")


def params_of(query: Query) -> list[tuple[str, str]]:
    """The question. Filters are tags, or `type:LORA`, `base:SDXL 1.0`, `period:week`,
    `checkpoint:merge`, `nsfw`; `task` is a type as well. Raises UsageError.
    """
    params = [("query", query.text)] if query.text else []
    params += [("username", query.author)] if query.author else []
    kinds = [query.task] if query.task else []
    kinds += _keyed(query, "type")
    for kind in kinds:
        params += [("types", one) for one in _types(kind)]
    params += [("baseModels", base) for base in _keyed(query, "base")]
    params += [("period", _word(p, _PERIODS, "period")) for p in _keyed(query, "period")]
    checkpoints = {"trained": "Trained", "merge": "Merge"}
    params += [
        ("checkpointType", _word(one, checkpoints, "kind of checkpoint"))
        for one in _keyed(query, "checkpoint")
    ]
    params += [("nsfw", _NSFW[one]) for one in map(str.lower, query.filters) if one in _NSFW]
    params += [("tag", tag) for tag in tags_of(query)[:1]]
    if query.gated:
        params.append(("earlyAccess", "true"))
    if query.sort is not None:
        params.append(("sort", _word(query.sort, _SORTS, "order")))
    return [*params, ("limit", str(max(1, min(query.limit, _PAGE))))]


def tags_of(query: Query) -> list[str]:
    """The filters that are tags. CivitAI is asked for the first of them."""
    return [
        one
        for one in query.filters
        if one.lower() not in _NSFW and one.partition(":")[0].lower() not in _KEYED
    ]


def wanted(model: Model, query: Query) -> bool:
    """Whether `model` has every tag, and is what was asked for about early access."""
    have = {tag.casefold() for tag in model.tags}
    early = bool(model.versions) and model.versions[0].early_access
    fits = all(tag.casefold() in have for tag in tags_of(query)[1:])
    return fits and query.gated in {None, early}


def hit_of(model: Model, endpoint: str) -> Hit:
    """By its newest version, which is what a lock would name."""
    newest = model.versions[0] if model.versions else None
    version = None if newest is None else newest.id
    early = newest is not None and newest.early_access
    return Hit(
        ref=refs.ref_to(endpoint, endpoint, version=version, model=model.id),
        title=model.name,
        author=model.author,
        likes=model.likes,
        downloads=model.downloads,
        updated=None if newest is None else newest.published,
        task=model.type or None,
        gated="manual" if early else "no",
        tags=(*((newest.base_model,) if newest and newest.base_model else ()), *model.tags),
    )


def _keyed(query: Query, key: str) -> list[str]:
    split = (one.partition(":") for one in query.filters)
    return [value for name, colon, value in split if colon and value and name.lower() == key]


def _types(kind: str) -> tuple[str, ...]:
    found = types_of(kind)
    if not found:
        near = get_close_matches(kind, TYPES, n=1, cutoff=0.5)
        raise UsageError(
            f"CivitAI has no type of models called {clean(kind, limit=80)!r}",
            hint=f"did you mean {near[0]!r}?" if near else "its types are " + ", ".join(TYPES),
        )
    return found


def _word(text: str, known: dict[str, str], what: str) -> str:
    """What CivitAI calls `text`, which is a word of ours or of theirs."""
    folded = text.casefold()
    theirs = {value.casefold(): value for value in known.values()}
    found = known.get(folded) or theirs.get(folded)
    if found is None:
        raise UsageError(
            f"CivitAI knows no {what} {clean(text, limit=80)!r}",
            hint="write one of " + ", ".join(known),
        )
    return found
