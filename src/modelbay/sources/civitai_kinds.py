"""Which category of folders a kind of model of CivitAI belongs to (protocols-hub C5)."""

from collections.abc import Mapping
from typing import Final

_MODELS: Final[Mapping[str, str]] = {
    "Checkpoint": "checkpoints",
    "UNet": "diffusion_models",
    "LORA": "lora",
    "LoCon": "lora",
    "DoRA": "lora",
    "TextualInversion": "embeddings",
    "VAE": "vae",
    "Controlnet": "controlnet",
    "Upscaler": "esrgan",
    "Hypernetwork": "hypernetworks",
    "TextEncoder": "text_encoder",
    "CLIP": "text_encoder",
    "CLIPVision": "clip_vision",
    "MotionModule": "motion",
}
_FILES: Final[Mapping[str, str | None]] = {
    "Diffusion Model": "diffusion_models",
    "UNet": "diffusion_models",
    "VAE": "vae",
    "Text Encoder": "text_encoder",
    "Vision Encoder": "clip_vision",
    "CLIPVision": "clip_vision",
    "ControlNet": "controlnet",
    "Upscaler": "esrgan",
    "Enhancement LoRA": "lora",
    "Negative": "embeddings",
    "Training Data": None,
    "Archive": None,
    "Workflow": None,
}
"""Files that are of another kind than the model they belong to."""
TYPES: Final = (
    *_MODELS,
    *("AestheticGradient", "Poses", "Wildcards", "Workflows", "Detection", "Other"),
)


def category_of(model: str, file: str) -> str | None:
    """The category of a file of type `file` of a model of type `model`; None where no folder of
    any application is for such files.
    """
    return _FILES[file] if file in _FILES else _MODELS.get(model)


def types_of(word: str) -> tuple[str, ...]:
    """The types of models that `word` stands for, one of theirs or a category of ours; none where
    nobody knows it.
    """
    folded = word.casefold().replace(" ", "")
    own = tuple(one for one in TYPES if one.casefold() == folded)
    categories = {folded, folded.removesuffix("s"), folded + "s"}
    return own or tuple(one for one, category in _MODELS.items() if category in categories)
