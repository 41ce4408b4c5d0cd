"""Heads of safetensors and GGUF files, written so that every reader accepts them.

Only the demo's models are made here. Formats: github.com/huggingface/safetensors
(README) and github.com/ggml-org/ggml (docs/gguf.md, version 3).
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

ALIGNMENT: Final = 32
_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
_GGML: Final = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144)}
"""Type number, weights in a block, bytes of a block."""


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def weights(self) -> int:
        return math.prod(self.shape)


def safetensors_head(tensors: Sequence[Tensor]) -> tuple[bytes, int]:
    """The head, and the size of the whole file. The data begins at a multiple of 8."""
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.weights * _BYTES[tensor.dtype]
        table[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, 8 + len(text) + offset


def gguf_head(metadata: Mapping[str, object], tensors: Sequence[Tensor]) -> tuple[bytes, int]:
    """The head up to the aligned data, and the size of the whole file.

    A tensor's first dimension is its row, a whole number of blocks.
    """
    told = {"general.alignment": ALIGNMENT, **metadata}
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(told))]
    parts += [_string(key) + _value(value) for key, value in told.items()]
    offset = 0
    for tensor in tensors:
        number, weights, size = _GGML[tensor.dtype]
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        parts.append(_string(tensor.name) + dimensions + struct.pack("<IQ", number, offset))
        offset = _aligned(offset + tensor.weights // weights * size)
    head = b"".join(parts)
    head += b"\0" * (_aligned(len(head)) - len(head))
    return head, len(head) + offset


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: object) -> bytes:
    """With its type number: string 8, uint32 4, uint16 2, int32 5, float32 6, array 9."""
    match value:
        case str():
            return struct.pack("<I", 8) + _string(value)
        case Short():
            return struct.pack("<IH", 2, value)
        case Signed():
            return struct.pack("<Ii", 5, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case list():
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
    raise TypeError(f"{type(value).__name__} has no place in this GGUF")


class Short(int):
    """A uint16, as `split.no` and `split.count` are."""


class Signed(int):
    """An int32, as `split.tensors.count` is."""
