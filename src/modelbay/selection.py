"""Which files of a snapshot are wanted: globs and variants, pure.

Shards of one weight file and its companions (projector, tokenizer, configuration) stay
together: half a sharded model is no model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from modelbay.errors import FileNotFound
from modelbay.snapshot import ModelFile, Snapshot
from modelbay.text import clean

WEIGHTS = frozenset(
    {".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack"}
    | {".onnx_data", ".tflite", ".ot", ".pkl", ".npz", ".keras", ".llamafile", ".mlmodel"}
)
_SHARD = re.compile(r"(?P<stem>.*?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>\..+)")
_QUANT = re.compile(
    r"(?i)(?:^|[-_.])((?:ud-)?(?:iq|q|tq)\d(?:_(?:k|0|1|xxs|xs|s|m|l|nl|xl|p|g\d+|\d+))*"
    r"|mxfp\d(?:_moe)?|nvfp4|bf16|fp?16|fp?32|fp8|int8|int4|4bit|8bit)(?=$|[-_.])"
)


@dataclass(frozen=True, slots=True)
class Selection:
    """The wanted files of a snapshot, in path order."""

    snapshot: Snapshot
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)


def is_weight(file: ModelFile) -> bool:
    return file.path.suffix in WEIGHTS


def variant_of(file: ModelFile) -> str | None:
    """The quantisation or precision that the name of a weight file tells, or None.

    `model-Q4_K_M.gguf` gives `Q4_K_M`; `model.fp16.safetensors` gives `FP16`. A folder
    counts when the file's own name does not tell (`Q8_0/model-00001-of-00002.gguf`).
    """
    if not is_weight(file):
        return None
    stem = file.path.name
    sharded = _SHARD.fullmatch(stem)
    stem = sharded["stem"] if sharded else stem.rpartition(".")[0]
    for name in (stem, *reversed(file.path.split("/")[:-1])):
        found = _QUANT.findall(name)
        if found:
            return str(found[-1]).upper()
    return None


def variants(files: Iterable[ModelFile]) -> dict[str, int]:
    """Variants that can be chosen, with the bytes of their weights, smallest first."""
    sizes: dict[str, int] = {}
    for file in files:
        variant = variant_of(file)
        if variant is not None and not _is_projector(file):
            sizes[variant] = sizes.get(variant, 0) + (file.size or 0)
    return dict(sorted(sizes.items(), key=lambda pair: (pair[1], pair[0])))


def select(
    snapshot: Snapshot,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    variant: str | None = None,
    path: str | None = None,
) -> Selection:
    """The wanted files. `path` names one file or one folder; globs are fnmatch, and a glob
    that ends in `/` takes the folder. Raises FileNotFound with the near names when nothing,
    or not the named file, is there.
    """
    files: Sequence[ModelFile] = snapshot.files
    if path is not None:
        files = _named(snapshot, path)
    if variant is not None:
        files = _of_variant(snapshot, files, variant)
    if include:
        chosen = [file for file in files if _matches(file, include)]
        files = _with_shards(chosen, files)
    kept = [file for file in files if not _matches(file, exclude)]
    if not kept and (snapshot.files or include or exclude):
        wanted = ", ".join(include) or "everything"
        raise FileNotFound(
            f"{snapshot.ref} has no file left for {clean(wanted)!r}"
            + (f" without {clean(', '.join(exclude))!r}" if exclude else ""),
            hint=f"see its files with `modelbay show {snapshot.ref}`",
        )
    return Selection(snapshot, tuple(sorted(kept, key=lambda file: file.path)))


def _named(snapshot: Snapshot, path: str) -> list[ModelFile]:
    inside = [f for f in snapshot.files if f.path == path or f.path.startswith(path + "/")]
    if inside:
        return inside
    near = get_close_matches(path, [str(f.path) for f in snapshot.files], n=3, cutoff=0.5)
    raise FileNotFound(
        f"{clean(path)!r} is not among the {len(snapshot.files)} files of {snapshot.ref}",
        hint=f"near names: {', '.join(map(clean, near))}"
        if near
        else f"see its files with `modelbay show {snapshot.ref}`",
    )


def _of_variant(
    snapshot: Snapshot, files: Sequence[ModelFile], variant: str
) -> Sequence[ModelFile]:
    wanted = variant.upper()
    weights = [f for f in files if variant_of(f) == wanted and not _is_projector(f)]
    if not weights:
        known = variants(files)
        raise FileNotFound(
            f"{snapshot.ref} has no variant {clean(variant)!r}",
            hint="its variants: " + ", ".join(map(clean, known))
            if known
            else "its files tell no variant: leave --variant out",
        )
    companions = [f for f in files if not is_weight(f)]
    return [*weights, *_projector(files), *companions]


def _projector(files: Sequence[ModelFile]) -> list[ModelFile]:
    projectors = sorted((f for f in files if _is_projector(f)), key=_projector_rank)
    return projectors[:1]


def _is_projector(file: ModelFile) -> bool:
    return is_weight(file) and file.path.name.casefold().startswith("mmproj")


def _projector_rank(file: ModelFile) -> tuple[bool, bool, str]:
    variant = variant_of(file)
    return variant not in {"F16", "FP16"}, variant != "BF16", file.path


def _with_shards(chosen: Sequence[ModelFile], files: Sequence[ModelFile]) -> list[ModelFile]:
    sets = {_shard_set(f) for f in chosen} - {None}
    return [f for f in files if f in chosen or _shard_set(f) in sets]


def _shard_set(file: ModelFile) -> tuple[str, str] | None:
    matched = _SHARD.fullmatch(file.path)
    return (matched["stem"], matched["count"] + matched["rest"]) if matched else None


def _matches(file: ModelFile, globs: Sequence[str]) -> bool:
    return any(
        fnmatchcase(file.path, glob + "*" if glob.endswith("/") else glob)
        or ("/" not in glob and fnmatchcase(file.path.name, glob))
        for glob in globs
    )
