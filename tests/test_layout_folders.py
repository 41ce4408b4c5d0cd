"""The folders of applications: where each category goes, and what is never followed."""

from importlib.resources import files
from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.config import Settings
from modelbay.errors import TargetTaken, UsageError
from modelbay.library import folders
from modelbay.library.folders import Mapped, application, mapped
from modelbay.library.folders_layout import Homes
from modelbay.plan import Action
from modelbay.safepath import SafeRelPath
from tests.layouts import a_file, a_snapshot, actions, bring, carry_out, plan_of

ROWS = """
checkpoints       Stable-diffusion checkpoints        Stable-diffusion
diffusion_models  UNET             diffusion_models   Stable-diffusion
unet              UNET             diffusion_models   Stable-diffusion
lora              Lora             loras              Lora
loras             Lora             loras              Lora
LoRA              Lora             loras              Lora
vae               VAE              vae                VAE
text_encoder      text_encoder     text_encoders      text_encoder
clip              text_encoder     text_encoders      text_encoder
text_encoders     text_encoder     text_encoders      text_encoder
clip_vision       clip_vision      clip_vision        clip_vision
controlnet        ControlNet       controlnet         ControlNet
esrgan            ESRGAN           upscale_models     ESRGAN
upscaler          ESRGAN           upscale_models     ESRGAN
upscale_models    ESRGAN           upscale_models     ESRGAN
embeddings        embeddings       embeddings         ../embeddings
hypernetworks     hypernetworks    hypernetworks      hypernetworks
motion            motion           animatediff_models motion
My-Own            My-Own           My-Own             My-Own
"""
WEIGHTS = {"x.safetensors": b"weights"}


@pytest.mark.parametrize("row", ROWS.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_every_category_goes_where_the_application_looks(row: str):
    category, *expected = row.split()

    names = ("sdnext", "comfyui", "a1111", "forge")
    found = [application(name).folder(category) for name in names]
    assert found == [*expected, expected[-1]]


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("sdnext", "sdnext/models"),
        ("comfyui", "ComfyUI/models"),
        ("a1111", "stable-diffusion-webui/models"),
        ("forge", "stable-diffusion-webui-forge/models"),
        ("lmstudio", "lmstudio/models"),
        ("plain", "models"),
    ],
)
def test_every_application_has_a_root_in_a_data_file_that_is_shipped(name: str, root: str):
    assert files("modelbay.library.folders").joinpath(f"{name}.toml").is_file()
    assert application(name).root == root


def test_an_application_that_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        application("comfy-ui")

    assert caught.value.hint == "did you mean 'comfyui'?"


def test_lm_studio_is_given_publisher_and_repo_and_plain_the_category():
    assert application("lmstudio").folder("llm", "org/model") == "org/model"
    assert application("plain").folder("llm", "org/model") == "llm"


def test_categories_of_ones_own_add_and_override_under_any_of_their_names():
    more = {"loras": "adapters", "wild": "wild/things"}

    assert application("sdnext").folder("lora", more=more) == "adapters"
    assert application("sdnext").folder("wild", more=more) == "wild/things"


@pytest.mark.parametrize("word", ["../outside", "/etc", "a/../b", "", "con", ".modelbay"])
def test_no_category_leaves_the_models(word: str):
    with pytest.raises(UsageError):
        application("plain").folder(word)
    assert not application("a1111").allows(word)


def test_a_lock_may_go_beside_the_models_only_where_the_application_does():
    assert application("a1111").allows("../embeddings")
    assert application("a1111").allows("../embeddings/style")
    assert not application("a1111").allows("../embeddings/../../etc")
    assert not application("sdnext").allows("../embeddings")


def test_a_category_close_to_a_known_one_is_told_and_others_are_not():
    assert folders.near_category("checkpoint") == "checkpoints"
    assert folders.near_category("llm") is None
    assert folders.near_category("loras") is None


def test_a_single_file_lies_in_the_category_and_several_in_a_folder_of_their_own():
    one = a_file("deep/x.safetensors", b"w")
    two = a_file("config.json", b"{}")

    assert mapped("Lora", "style", [one], None, own=True) == Mapped(
        "Lora", {one.path: SafeRelPath.parse("x.safetensors")}
    )
    assert mapped("Lora", "style", [one, two], None, own=True) == Mapped("Lora/style", {})


def test_a_filename_for_several_files_is_refused():
    several = [a_file("a", b"1"), a_file("b", b"2")]

    with pytest.raises(UsageError, match="is 2 files"):
        mapped("Lora", "style", several, "x.bin", own=True)


def test_what_modelbay_keeps_for_itself_lies_at_the_root_and_not_in_a_category(tmp_path: Path):
    bring(WEIGHTS, Homes().layout(tmp_path, Mapped("Lora", {})))

    assert sorted(path.name for path in tmp_path.iterdir()) == [".modelbay", "Lora"]
    assert [path.name for path in (tmp_path / "Lora").iterdir()] == ["x.safetensors"]


def test_embeddings_of_a1111_lie_beside_its_models(tmp_path: Path):
    bring(WEIGHTS, Homes().layout(tmp_path / "ui/models", Mapped("../embeddings", {})))

    assert (tmp_path / "ui/embeddings/x.safetensors").read_bytes() == b"weights"


def test_the_root_may_be_a_link_and_what_is_beside_it_is_beside_what_it_leads_to(tmp_path: Path):
    (tmp_path / "opt/ui/models").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "opt/ui/models")
    homes = Homes()
    bring(WEIGHTS, homes.layout(tmp_path / "models", Mapped("Lora", {})))
    bring(WEIGHTS, homes.layout(tmp_path / "models", Mapped("../embeddings", {})))

    assert (tmp_path / "opt/ui/models/Lora/x.safetensors").is_file()
    assert (tmp_path / "opt/ui/embeddings/x.safetensors").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "opt"]


@pytest.mark.parametrize("folder", ["Lora", "Lora/own", "../embeddings"])
def test_a_link_below_the_root_is_never_followed(tmp_path: Path, folder: str):
    (tmp_path / "outside").mkdir()
    root = tmp_path / "ui/models"
    root.mkdir(parents=True)
    link = root / folder.replace("/own", "") if folder[0] != "." else tmp_path / "ui/embeddings"
    link.symlink_to(tmp_path / "outside")
    layout = Homes().layout(root, Mapped(folder, {}))
    plan = plan_of(a_snapshot(WEIGHTS), layout)

    assert actions(plan) == {"x.safetensors": "blocked"}
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_link_that_comes_after_the_plan_is_not_followed_either(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    layout = Homes().layout(tmp_path / "models", Mapped("Lora", {}))
    plan = plan_of(a_snapshot(WEIGHTS), layout)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/Lora").symlink_to(tmp_path / "outside")

    with pytest.raises(TargetTaken):
        carry_out(plan, layout, WEIGHTS)
    assert list((tmp_path / "outside").iterdir()) == []


def test_what_one_category_has_another_links(tmp_path: Path):
    homes = Homes()
    bring(WEIGHTS, homes.layout(tmp_path, Mapped("Lora", {})))
    plan = bring(WEIGHTS, homes.layout(tmp_path, Mapped("VAE", {})), name="org/other")

    assert [step.action for step in plan.steps] == [Action.LINK]
    assert (tmp_path / "VAE/x.safetensors").read_bytes() == b"weights"


def test_a_file_of_the_users_is_never_replaced(tmp_path: Path):
    (tmp_path / "Lora").mkdir()
    (tmp_path / "Lora/x.safetensors").write_bytes(b"mine")
    plan = plan_of(a_snapshot(WEIGHTS), Homes().layout(tmp_path, Mapped("Lora", {})))

    assert actions(plan) == {"x.safetensors": "blocked"}
    assert (tmp_path / "Lora/x.safetensors").read_bytes() == b"mine"


def got(bay: Bay, text: str, category: str | None) -> Path:
    ref = bay.parse(text)
    plan = bay.plan(bay.select(bay.resolve(ref)), bay.layout("folders", ref, category=category))
    run = bay.carry([plan])
    assert run.wait(30)
    return plan.root


def test_a_category_named_on_the_command_line_is_a_folder_of_the_users_application(tmp_path: Path):
    settings = Settings(folders="comfyui", workspace=tmp_path)
    with Bay.open(settings=settings, environ={"HOME": str(tmp_path)}) as bay:
        several = got(bay, "mock://org/several", "lora")
        single = got(bay, "mock://org/single?files=x.safetensors", "lora")

    assert several == tmp_path / "ComfyUI/models/loras/several"
    assert single == tmp_path / "ComfyUI/models/loras"
    assert (single / "x.safetensors").is_file()
    assert sorted(path.name for path in several.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_another_root_takes_the_place_of_the_applications(tmp_path: Path):
    environ = {"HOME": str(tmp_path)}
    with Bay.open(environ=environ, root=tmp_path / "mine") as bay:
        assert got(bay, "mock://org/a?files=x.bin", "vae") == tmp_path / "mine/VAE"


def test_the_folders_layout_without_a_category_asks_for_one(tmp_path: Path):
    with Bay.open(environ={"HOME": str(tmp_path)}) as bay, pytest.raises(UsageError, match="kind"):
        bay.layout("folders", bay.parse("mock://org/a"))
