"""Settings: precedence, origins, and faults that name file, line and column."""

from pathlib import Path

import pytest

from modelbay import paths
from modelbay.config import KEYS, Reserve, Settings, read_settings
from modelbay.config.position import position
from modelbay.errors import FormatError, UsageError


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


def written(environ: dict[str, str], text: str) -> Path:
    file = paths.config_file(environ)
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_without_file_and_environment_every_value_is_the_default(environ: dict[str, str]) -> None:
    settings = read_settings(environ)

    assert settings == Settings(file=paths.config_file(environ))
    assert settings.origin("jobs") == "default"


def test_every_key_is_a_field_of_the_settings() -> None:
    fields = set(Settings.__dataclass_fields__) - {"origins", "file", "warnings"}

    assert {key.name for key in KEYS} == fields


def test_the_whole_file_is_read(environ: dict[str, str], tmp_path: Path) -> None:
    written(
        environ,
        """\
jobs = 3
connections = 8
bandwidth = "20MB/s"
reserve = "2.5%"
background_on_quit = "keep"
trash_days = 0
links = "hardlink"
folders = "comfyui"
workspace = "~/models"
root = "mine"
license_allow = ["mit"]
formats = "no-pickle"
mirrors = ["https://mirror.example"]
mirror_keys = ["k1"]
theme = "dark"
units = "binary"
ascii = true

[endpoints]
civitai = "https://civitai.example/"

[categories]
upscaler = "Upscale"

[sources.company-s3]
type = "s3"
bucket = "b"

[keys]
quit = "ctrl+q"
""",
    )

    settings = read_settings(environ)

    assert settings.warnings == ()
    assert (settings.jobs, settings.connections, settings.trash_days) == (3, 8, 0)
    assert settings.bandwidth == 20_000_000
    assert settings.reserve.of(1000) == 25
    assert (settings.background_on_quit, settings.links) == ("keep", "hardlink")
    assert (settings.folders, settings.formats) == ("comfyui", "no-pickle")
    assert settings.workspace == tmp_path / "models"
    assert settings.root == paths.config_file(environ).parent / "mine"
    assert settings.license_allow == ("mit",)
    assert (settings.mirrors, settings.mirror_keys) == (("https://mirror.example",), ("k1",))
    assert (settings.theme, settings.units, settings.ascii) == ("dark", "binary", True)
    assert settings.endpoints == {"civitai": "https://civitai.example"}
    assert settings.categories == {"upscaler": "Upscale"}
    assert settings.sources == {"company-s3": {"type": "s3", "bucket": "b"}}
    assert settings.keys == {"quit": "ctrl+q"}


def test_command_line_beats_environment_beats_file(environ: dict[str, str]) -> None:
    file = written(environ, "jobs = 1\nconnections = 1\n  trash_days = 1\n")
    environ |= {"MODELBAY_JOBS": "2", "MODELBAY_CONNECTIONS": "2"}

    settings = read_settings(environ, given={"jobs": "3", "units": None})

    assert (settings.jobs, settings.connections, settings.trash_days) == (3, 2, 1)
    assert settings.origin("jobs") == "command line"
    assert settings.origin("connections") == "$MODELBAY_CONNECTIONS"
    assert settings.origin("trash_days") == f"{file}:3:3"


@pytest.mark.parametrize(
    ("variable", "value", "name", "expected"),
    [
        ("WORKSPACE", "/w", "workspace", Path("/w")),
        ("HF_HUB_OFFLINE", "1", "offline", True),
        ("HF_HUB_OFFLINE", "0", "offline", False),
        ("MODELBAY_LICENSE_ALLOW", "mit, apache-2.0", "license_allow", ("mit", "apache-2.0")),
        ("MODELBAY_BANDWIDTH", "none", "bandwidth", None),
        ("MODELBAY_BANDWIDTH", "80Mbit/s", "bandwidth", 10_000_000),
        ("MODELBAY_BANDWIDTH", "1MiB/s", "bandwidth", 1 << 20),
        ("MODELBAY_RESERVE", "20GB", "reserve", Reserve(bytes=20_000_000_000)),
        ("MODELBAY_ASCII", "yes", "ascii", True),
        (
            "HF_ENDPOINT",
            "https://hub.example/hf/",
            "endpoints",
            {"huggingface": "https://hub.example/hf"},
        ),
        (
            "MODELBAY_OLLAMA_ENDPOINT",
            "http://127.0.0.1:99",
            "endpoints",
            {"ollama": "http://127.0.0.1:99"},
        ),
        ("MLFLOW_TRACKING_URI", "databricks://p", "endpoints", {"mlflow": "databricks://p"}),
    ],
)
def test_the_environment_is_read(
    environ: dict[str, str], variable: str, value: str, name: str, expected: object
) -> None:
    environ[variable] = value

    assert getattr(read_settings(environ), name) == expected


def test_an_endpoint_variable_beats_the_file_and_leaves_the_others(environ: dict[str, str]) -> None:
    written(environ, '[endpoints]\ncivitai = "https://a.example"\nollama = "https://b.example"\n')
    environ["MODELBAY_CIVITAI_ENDPOINT"] = "https://c.example"

    settings = read_settings(environ)

    assert settings.endpoints == {"civitai": "https://c.example", "ollama": "https://b.example"}
    assert settings.origin("endpoints.civitai") == "$MODELBAY_CIVITAI_ENDPOINT"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("jobs = 0\n", "1:1", "jobs is 0, expected a whole number from 1 to 64"),
        ("\n  jobs = true\n", "2:3", "jobs is True, expected a whole number"),
        ('folders = "comfy"\n', "1:1", "folders is 'comfy', expected one of sdnext, comfyui"),
        ('bandwidth = "fast"\n', "1:1", "bandwidth is 'fast', expected an amount like 20MB/s"),
        ('bandwidth = "20"\n', "1:1", "at least 1 kB/s"),
        ('reserve = "-1%"\n', "1:1", "reserve is '-1%'"),
        ("license_allow = [1]\n", "1:1", "expected a list of texts"),
        ("endpoints = 1\n", "1:1", "expected a table [endpoints]"),
        ('[endpoints]\ncivitai = "civitai.com"\n', "2:1", "expected an address like https://host"),
        ('[endpoints]\ncivitai = "https://c.example/api"\n', "2:1", "without path or query"),
        ('[endpoints]\ngdrive = "https://[::"\n', "2:1", "an unreadable address"),
        ('sources.s3 = "x"\n', "1:1", "sources.s3 is 'x', expected a table"),
        ("jobs = \n", "1:8", "Invalid value"),
        ("a = 1\na = 2\n", "2:6", "Cannot overwrite a value"),
    ],
)
def test_a_fault_names_file_line_and_column(
    environ: dict[str, str], text: str, place: str, said: str
) -> None:
    file = written(environ, text)

    with pytest.raises(FormatError) as caught:
        read_settings(environ)

    assert str(caught.value).startswith(f"{file}:{place}: ")
    assert said in str(caught.value)
    assert caught.value.hint


def test_a_misspelt_value_gets_the_nearest(environ: dict[str, str]) -> None:
    written(environ, 'formats = "no_pickle"\n')

    with pytest.raises(FormatError) as caught:
        read_settings(environ)

    assert caught.value.hint == "did you mean 'no-pickle'?"


def test_an_unknown_key_is_a_warning_with_place_and_nearest_key(environ: dict[str, str]) -> None:
    file = written(
        environ, 'jobs = 2\nbandwith = "1MB/s"\n[endpoints]\ncivitia = "https://c.example"\n'
    )

    settings = read_settings(environ)

    assert settings.jobs == 2
    assert settings.warnings == (
        f"{file}:2:1: nobody knows the key 'bandwith'; did you mean 'bandwidth'?",
        f"{file}:4:1: nobody knows the key 'endpoints.civitia'; did you mean 'civitai'?",
    )


def test_a_password_in_an_endpoint_is_refused_and_not_repeated(environ: dict[str, str]) -> None:
    environ["HF_ENDPOINT"] = "https://me:hunter2@hub.example"

    with pytest.raises(UsageError) as caught:
        read_settings(environ)

    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_a_named_file_that_is_not_there_is_a_warning(environ: dict[str, str]) -> None:
    environ["MODELBAY_CONFIG"] = "~/nowhere.toml"

    assert "nowhere.toml ($MODELBAY_CONFIG) is not there" in read_settings(environ).warnings[0]


def test_a_file_that_is_not_utf8_is_refused_with_its_line(environ: dict[str, str]) -> None:
    written(environ, "").write_bytes(b"jobs = 1\ntheme = '\xff'\n")

    with pytest.raises(FormatError, match=r"config.toml:2: a byte that is not UTF-8"):
        read_settings(environ)


def test_a_file_over_a_mebibyte_is_refused(environ: dict[str, str]) -> None:
    written(environ, "#" * (1 << 20) + "\n")

    with pytest.raises(FormatError, match="larger than 1 MiB"):
        read_settings(environ)


def test_a_directory_in_place_of_the_file_is_said(environ: dict[str, str]) -> None:
    paths.config_file(environ).mkdir(parents=True)

    with pytest.raises(FormatError, match="could not be read: Is a directory"):
        read_settings(environ)


def test_positions_of_dotted_and_quoted_keys_are_found() -> None:
    text = 'a = 1\n[t."x y"]\nb.c = 2\n'

    assert position(text, ("t", "x y", "b", "c")) == (3, 1)
    assert position(text, ("t", "x y")) == (2, 2)
    assert position(text, ("absent",)) == (1, 1)


def test_state_lies_under_the_named_directory_one_per_host(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["MODELBAY_STATE_DIR"] = str(tmp_path / "s")

    state = paths.state_dir(environ)

    assert state.parent == tmp_path / "s"
    assert paths.log_file(environ).parent == state


def test_xdg_directories_are_followed_when_absolute(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ |= {"XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_DATA_HOME": "relative"}

    assert paths.config_file(environ) == tmp_path / "c/modelbay/config.toml"
    assert paths.data_dir(environ).is_relative_to(tmp_path)
    assert "relative" not in paths.data_dir(environ).parts


def test_the_workspace_is_looked_for_in_order(environ: dict[str, str]) -> None:
    environ["WORKSPACE"] = "/from-environment"

    assert paths.workspace(environ, asked=Path("/asked"), setting=Path("/s")) == Path("/asked")
    assert paths.workspace(environ, setting=Path("/s")) == Path("/from-environment")
    del environ["WORKSPACE"]
    assert paths.workspace(environ, setting=Path("/s")) == Path("/s")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/b", "HF_HOME": "/c"}, "/b"),
        ({"HF_HOME": "/c", "XDG_CACHE_HOME": "/d"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d", "HOME": "/home/u"}, "/d/huggingface/hub"),
        ({"HOME": "/home/u"}, "/home/u/.cache/huggingface/hub"),
        ({"HF_HOME": "~/hf", "HOME": "/home/u"}, "/home/u/hf/hub"),
        ({"HF_HUB_CACHE": "$DISK/hub", "DISK": "/mnt"}, "/mnt/hub"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/c"}, "/c/hub"),
    ],
)
def test_the_hub_cache_is_found_as_the_hub_finds_it(
    environ: dict[str, str], variables: dict[str, str], expected: str
) -> None:
    assert paths.hub_cache(environ | variables) == Path(expected)
