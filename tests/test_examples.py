"""The examples are locked and synced as they stand; only hosts are mapped to our own Hub."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.errors import AccessError, UsageError
from modelbay.plan import Action
from modelbay.provision import read_lock, written
from modelbay.serve import Account, Hub, demo_shelf
from modelbay.text import Secret
from tests.doubles.civitai import Civitai, File, Model, Version, weights
from tests.shelves import add_repos

EXAMPLES = Path(__file__).parent.parent / "examples"
ELSEWHERE = "http://127.0.0.1:8000"
FLUX = "black-forest-labs/FLUX.1-dev"
VERSIONS = {
    58390: [File(71, "add_detail.safetensors", weights("detail"))],
    128713: [
        File(81, "dreamshaper_8.safetensors", weights("eight")),
        File(82, "dreamshaper_8_vae.safetensors", weights("vae"), type="VAE", primary=False),
    ],
}
ENDPOINTS: dict[str, str] = {}
REPOS = {
    FLUX: ["flux1-dev.safetensors", "ae.safetensors"],
    "comfyanonymous/flux_text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "zer0int/CLIP-GmP-ViT-L-14": ["ViT-L-14-BEST-smooth-GmP-HF-format.safetensors"],
}
LATER = {
    "company-stores.toml": [
        ("llm/classifier", "git-lfs"), ("llm/fraud", "mlflow")
    ],
}  # fmt: skip
"""Examples of sources that this version reads and does not have."""


@pytest.fixture(scope="module", autouse=True)
def _civitai() -> Iterator[None]:
    versions = [Version(number, "v1", files) for number, files in VERSIONS.items()]
    with Civitai(Model(4384, "DreamShaper", "Checkpoint", versions)) as double:
        ENDPOINTS["MODELBAY_CIVITAI_ENDPOINT"] = double.url
        yield
    ENDPOINTS.clear()


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    tokens = {
        Secret("hf_company"): Account("company"),
        Secret("hf_flux"): Account("flux", frozenset({FLUX})),
    }
    shelf = demo_shelf()
    add_repos(shelf, REPOS, gated=[FLUX])
    with Hub(shelf, tokens=tokens) as hub:
        yield hub


def environment(hub: Hub, home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": hub.endpoint,
        "WORKSPACE": str(home / "workspace"),
        "COMPANY_HUB_TOKEN": "hf_company",
        "HF_TOKEN": "hf_flux",
        **ENDPOINTS,
    }


def example(name: str, hub: Hub, to: Path) -> Path:
    asked = to / name
    text = (EXAMPLES / name).read_text().replace(ELSEWHERE, hub.endpoint)
    asked.write_text(text.replace("https://civitai.com", ENDPOINTS["MODELBAY_CIVITAI_ENDPOINT"]))
    return asked


def synced(hub: Hub, home: Path, lock: Path) -> list[str]:
    """Carries the lock out, checks that a second run keeps everything, and names the files."""
    with Bay.open(environ=environment(hub, home)) as bay:
        plans = bay.plans_of(lock)
        run = bay.carry(plans)
        assert run.wait(60)
        assert not [row.error for row in run.rows if row.error]
        again = bay.plans_of(lock)
        assert {step.action for plan in again for step in plan.steps} == {Action.KEEP}
        bay.verify(again)
    root = home / "workspace"
    names = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if ".modelbay" not in name.parts)


EXPECTED = {
    "civitai.toml": [
        "ComfyUI/models/checkpoints/dreamshaper_8.safetensors",
        "ComfyUI/models/loras/detail-tweaker.safetensors",
        "ComfyUI/models/vae/dreamshaper_8_vae.safetensors",
    ],
    "minimal.toml": [
        "sdnext/models/Lora/made-up.safetensors",
        "sdnext/models/Stable-diffusion/tiny.safetensors",
    ],
    "company.toml": [
        "models/llm/short/.gitattributes",
        "models/llm/short/README.md",
        "models/llm/short/config.json",
        "models/llm/short/model-00001-of-00003.safetensors",
        "models/llm/short/model-00002-of-00003.safetensors",
        "models/llm/short/model-00003-of-00003.safetensors",
        "models/llm/short/model.safetensors.index.json",
        "models/llm/short/tokenizer.json",
        "models/llm/short/tokenizer_config.json",
        "models/llm/small/config.json",
        "models/llm/small/model.safetensors",
        "models/llm/small/tokenizer.json",
        "models/llm/small/tokenizer_config.json",
    ],
    "flux.toml": [
        "sdnext/models/UNET/flux1-dev.safetensors",
        "sdnext/models/VAE/flux-vae.safetensors",
        "sdnext/models/text_encoder/ViT-L-14-BEST-smooth-GmP-HF-format.safetensors",
        "sdnext/models/text_encoder/clip_l.safetensors",
        "sdnext/models/text_encoder/t5xxl_fp8_e4m3fn.safetensors",
    ],
    "full.toml": [
        "ComfyUI/models/checkpoints/tiny.safetensors",
        "ComfyUI/models/diffusion_models/sharded/config.json",
        "ComfyUI/models/diffusion_models/sharded/model-00001-of-00003.safetensors",
        "ComfyUI/models/diffusion_models/sharded/model-00002-of-00003.safetensors",
        "ComfyUI/models/diffusion_models/sharded/model-00003-of-00003.safetensors",
        "ComfyUI/models/diffusion_models/sharded/model.safetensors.index.json",
        "ComfyUI/models/llm/quantised/README.md",
        "ComfyUI/models/llm/quantised/gguf-quants-Q4_K_M.gguf",
        "ComfyUI/models/llm/quantised/mmproj-gguf-quants-F16.gguf",
        "ComfyUI/models/loras/made-up.safetensors",
        "ComfyUI/models/loras/model.safetensors",
        "ComfyUI/models/text_encoders/tokenizers/tiny-tokenizer.json",
        "ComfyUI/models/vae/empty.safetensors",
        "papers/tiny/README.md",
        "papers/tiny/config.json",
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_locks_and_its_lock_alone_brings_the_same_files_to_an_empty_machine(
    hub: Hub, tmp_path: Path, name: str
):
    asked, lock = example(name, hub, tmp_path), tmp_path / "made.lock.toml"
    with Bay.open(environ=environment(hub, tmp_path / "one")) as bay:
        bay.lock(asked, lock)
    asked.unlink()

    assert synced(hub, tmp_path / "two", lock) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_lock_is_the_same_bytes_when_made_again_and_when_read_and_written(
    hub: Hub, tmp_path: Path, name: str
):
    asked = example(name, hub, tmp_path)
    locks = [tmp_path / f"{number}.lock.toml" for number in range(3)]
    for lock, home in zip(locks, ("one", "one", "two"), strict=True):
        with Bay.open(environ=environment(hub, tmp_path / home)) as bay:
            bay.lock(asked, lock)

    first = locks[0].read_bytes()
    assert [lock.read_bytes() for lock in locks] == [first] * 3
    assert written(read_lock(locks[0])) == first


def test_the_tokens_and_paths_of_this_machine_are_in_no_lock(hub: Hub, tmp_path: Path):
    lock = tmp_path / "made.lock.toml"
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        bay.lock(example("company.toml", hub, tmp_path), lock)

    assert "hf_company" not in lock.read_text()
    assert str(tmp_path) not in lock.read_text()
    assert 'auth = { token_env = "COMPANY_HUB_TOKEN" }' in lock.read_text()


def test_without_a_token_nothing_of_flux_is_fetched_and_its_name_and_variable_are_told(
    hub: Hub, tmp_path: Path
):
    environ = environment(hub, tmp_path)
    del environ["HF_TOKEN"]
    asked = example("flux.toml", hub, tmp_path)
    with Bay.open(environ=environ) as bay, pytest.raises(AccessError) as caught:
        bay.sync(asked)

    assert "FLUX.1-dev" in str(caught.value)
    assert "HF_TOKEN" in caught.value.hint
    arrived = {path.name for path in tmp_path.rglob("*.safetensors")}
    assert not arrived & {"flux1-dev.safetensors", "flux-vae.safetensors"}


@pytest.mark.parametrize("name", LATER)
def test_an_example_of_sources_to_come_is_read_and_each_of_them_is_named(
    hub: Hub, tmp_path: Path, name: str
):
    with Bay.open(environ=environment(hub, tmp_path)) as bay:
        provision = bay.provision(example(name, hub, tmp_path))

        assert [(one.id, one.source) for one in provision.later] == LATER[name]
        with pytest.raises(UsageError, match="sources that this version does not have"):
            bay.sync(example(name, hub, tmp_path))


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.toml")} == {*EXPECTED, *LATER}
