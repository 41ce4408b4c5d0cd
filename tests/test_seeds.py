"""The documents that came before modelbay: their examples are read and run where they lie.

`$MODELBAY_SEEDS` names their folder, which is beside the repository by default.
"""

import gzip
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modelbay import sources as installed
from modelbay.bay import Bay
from modelbay.config.editing import with_table
from modelbay.errors import FormatError, IntegrityError
from modelbay.provision import Provision
from modelbay.provision.editing import remove_entry
from modelbay.serve import Account, Hub, MemoryShelf
from modelbay.text import Secret
from tests.doubles import civitai, ollama
from tests.doubles.gdrive import DriveDouble, Shared
from tests.doubles.s3 import S3Double
from tests.nix import Applied, Reader
from tests.shelves import add_repos, content, weights
from tests.test_unpack import tarred

BESIDE = Path(__file__).parents[2] / "shared" / "seeds"
SEEDS = Path(os.environ.get("MODELBAY_SEEDS", BESIDE))
PAGES = ("model-provisioning.md", "model-sources.md")
pytestmark = pytest.mark.skipif(
    not all((SEEDS / page).is_file() for page in PAGES),
    reason="$MODELBAY_SEEDS does not name the seeds",
)
LLAMA, MISTRAL = "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1"
MISTRAL_FILES = [
    "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
]  # fmt: skip
REPOS = {
    "stabilityai/stable-diffusion-xl-base-1.0": ["sd_xl_base_1.0.safetensors"],
    "username/repository": ["model.safetensors"],
    "comfyanonymous/flux_text_encoders": ["clip_l.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "zer0int/CLIP-GmP-ViT-L-14": ["ViT-L-14-BEST-smooth-GmP-HF-format.safetensors"],
    "black-forest-labs/FLUX.1-dev": ["ae.safetensors"],
    LLAMA: ["config.json", "model.safetensors"],
    "google-bert/bert-base-uncased": ["config.json", "model.safetensors"],
    MISTRAL: [*MISTRAL_FILES, "pytorch_model.bin"],
}
DRIVE = {"1ABC123DEF456": Shared("shared.safetensors", weights("shared"))}
MEMBERS = {"config.json": b"{}", "model.safetensors": weights("member")}
VERSIONS = {58390: "detail.safetensors", 12345: "model.safetensors"}
ENDPOINTS: dict[str, str] = {}
HOSTS = ("https://example.com", "https://releases.company.com")


@dataclass
class Web:
    """What stands for the plain addresses. `asked` are paths with their Authorization."""

    origin: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    shelf = MemoryShelf()
    add_repos(shelf, REPOS, gated=[LLAMA])
    tokens = {Secret("hf_seed"): Account("seed", frozenset({LLAMA}))}
    with Hub(shelf, tokens=tokens) as hub:
        yield hub


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    found = Web()

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.path, self.headers.get("Authorization")))
            packed = gzip.compress(tarred(MEMBERS), mtime=0)
            body = weights(self.path) if self.path.endswith(".safetensors") else packed
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        found.origin = f"http://127.0.0.1:{listening.server_port}"
        yield found
        listening.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    versions = [
        civitai.Version(number, "v1", [civitai.File(number, name, weights(name))])
        for number, name in VERSIONS.items()
    ]
    tweaker = civitai.Model(1, "Tweaker", "LORA", versions)
    with civitai.Civitai(tweaker) as double, DriveDouble(DRIVE) as drive:
        ENDPOINTS["MODELBAY_CIVITAI_ENDPOINT"] = double.url
        ENDPOINTS["MODELBAY_GDRIVE_ENDPOINT"] = drive.url
        yield
    ENDPOINTS.clear()


def opened(hub: Hub, home: Path) -> Bay:
    return Bay.open(
        environ={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": "hf_seed",
            "WORKSPACE": str(home / "workspace"),
            **ENDPOINTS,
        }
    )


def page(name: str) -> str:
    return (SEEDS / name).read_text()


def blocks(name: str, language: str) -> list[str]:
    text = re.sub(r"(?m)^   ", "", page(name))
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def written(text: str, web: Web, folder: Path) -> Path:
    """`text` with the hosts mapped, as a file."""
    for host in HOSTS:
        text = text.replace(host, web.origin)
    path = folder / "config.toml"
    path.write_text(text)
    return path


def without_later(path: Path, bay: Bay) -> Provision | None:
    """What `path` asks of sources that exist; the other entries go. None where all do."""
    provision = bay.provision(path)
    gone = {one.id for one in provision.later}
    if len(gone) == len(provision.entries) + len(provision.later):
        return None
    for ident in gone:
        remove_entry(path, ident)
    return bay.provision(path)


def folders_of_the_seed() -> dict[str, str]:
    """The table of categories and directories, as the page has it."""
    return dict(re.findall(r"\| `(\w+)` \| `models/([\w-]+)/` \|", page(PAGES[0])))


def runs(path: Path, hub: Hub, home: Path) -> list[Path]:
    """Syncs the file, sees that a second time all is kept, and names what came."""
    with opened(hub, home) as bay:
        bay.sync(path)
        again = bay.prepare_sync(path)
        assert {str(step.action) for plan in again.plans for step in plan.steps} == {"keep"}
        return [step.target for plan in again.plans for step in plan.steps]


TOML = blocks(PAGES[0], "toml") if (SEEDS / PAGES[0]).is_file() else []


@pytest.mark.parametrize("number", range(len(TOML)))
def test_a_block_of_the_provisioning_page_is_read_and_runs(
    hub: Hub, web: Web, tmp_path: Path, number: int
):
    path = written(TOML[number], web, tmp_path)
    with opened(hub, tmp_path) as bay:
        provision = without_later(path, bay)
    if provision is None:
        return
    came = {str(target.relative_to(tmp_path / "workspace")) for target in runs(path, hub, tmp_path)}

    folders = folders_of_the_seed()
    for entry in provision.entries:
        name = (
            entry.filename
            or ("shared.safetensors" if entry.source == "gdrive" else None)
            or VERSIONS.get(int(entry.keys.get("version_id", 0)))
            or Path(str(entry.keys.get("file") or entry.keys.get("url") or entry.ref)).name
        )
        assert f"sdnext/models/{folders[entry.category]}/{name}" in came
    assert len(came) == len(provision.entries)


def test_the_provisioning_page_has_the_blocks_that_were_run_and_names_no_later_source(
    hub: Hub, web: Web, tmp_path: Path
):
    later: list[str] = []
    run = 0
    for text in TOML:
        path = written(text, web, tmp_path)
        with opened(hub, tmp_path) as bay:
            later += [one.source for one in bay.provision(path).later]
            run += without_later(path, bay) is not None

    assert len(TOML) == 8
    assert not later
    assert run >= 6


def test_a_literal_header_of_the_page_goes_to_its_own_host(hub: Hub, web: Web, tmp_path: Path):
    (text,) = [block for block in TOML if "headers" in block]
    web.asked.clear()
    runs(written(text, web, tmp_path), hub, tmp_path)

    assert ("/model.safetensors", "Bearer token") in web.asked


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def kebab(name: str) -> str:
    return snake(name).replace("_", "-")


def plain(value: Any) -> Any:
    """Keys in snake case, `null` left out; names of sources stay as they are."""
    if not isinstance(value, dict):
        return value
    return {snake(key): plain(inner) for key, inner in value.items() if inner is not None}


@dataclass
class Page:
    """The provision-file form of model-sources.md."""

    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, block: str) -> None:
        body, _, rest = block.partition("\nin {")
        if rest:
            self._add_factories(Reader(body.partition("let")[2]).assignments())
            table = Reader(rest.rpartition("}")[0]).assignments()
            for name, made in table.items():
                self._add(name, made.argument)
        elif "fetchModel pkgs" in block:
            made = Reader(block.partition("fetchModel pkgs")[2]).assignments_of_set()
            self._add(made["name"], made)
        else:
            table = Reader(block).assignments()
            if "source" in table:
                (kind,) = table["source"]
                self._add(f"as-configured-{kind}", table)

    def _add_factories(self, table: dict[str, Any]) -> None:
        for name, made in table.items():
            if isinstance(made, Applied) and made.argument is not None:
                kind = made.name.rpartition(".mk")[2]
                keys = plain(made.argument)
                auth = {"auth": keys.pop("default_auth")} if "default_auth" in keys else {}
                self.sources[kebab(name)] = {"type": kebab(kind).replace("-", ""), **keys, **auth}

    def _add(self, name: str, made: dict[str, Any]) -> None:
        entry = {snake(key): plain(value) for key, value in made.items() if key != "name"}
        if isinstance(made["source"], Applied):
            factory, argument = kebab(made["source"].name), made["source"].argument
            first = "prefix" if self.sources[factory]["type"] == "s3" else "repo"
            inner = plain(argument) if isinstance(argument, dict) else {first: argument}
            entry["source"] = {factory: inner}
        else:
            entry["source"] = {kind: plain(keys) for kind, keys in made["source"].items()}
        self.models[f"{name}-again" if name in self.models else name] = entry

    def text(self, *names: str) -> str:
        """A provision file of these models, and of every factory."""
        text = ""
        for name, keys in self.sources.items():
            text = with_table(text, ("sources", name), keys)
        for name in names or self.models:
            text = with_table(text, ("models", "llm", name), self.models[name])
        return text


@pytest.fixture(scope="module")
def sources() -> Page:
    """Every model of the page, without the documents' placeholders for a hash and a commit."""
    found = Page()
    for block in blocks(PAGES[1], "nix"):
        found.add(block)
    for entry in found.models.values():
        if entry.get("hash") == "sha256-...":
            del entry["hash"]
        for keys in entry["source"].values():
            keys |= {
                name: text.removesuffix("...") for name, text in keys.items() if text == "abc123..."
            }
    return found


def kinds(page: Page) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, entry in page.models.items():
        (kind,) = entry["source"]
        found.setdefault(page.sources.get(kind, {}).get("type", kind), []).append(name)
    return found


def test_the_whole_of_the_sources_page_is_found(sources: Page):
    assert {kind: len(names) for kind, names in kinds(sources).items()} == {
        "huggingface": 5, "mlflow": 6, "s3": 4, "git-lfs": 2, "git-xet": 2, "url": 2,
        "ollama": 2, "mock": 2,
    }  # fmt: skip


def test_what_the_sources_page_asks_of_later_sources_is_read_and_named(
    sources: Page, hub: Hub, web: Web, tmp_path: Path
):
    here = set(installed.names())
    wanted = {kind: names for kind, names in kinds(sources).items() if kind not in here}
    names = [name for several in wanted.values() for name in several]
    with opened(hub, tmp_path) as bay:
        provision = bay.provision(written(sources.text(*names), web, tmp_path))

    assert {(one.id, one.source) for one in provision.later} == {
        (f"llm/{name}", kind) for kind, several in wanted.items() for name in several
    }


def test_models_of_ollama_run_as_the_sources_page_has_them(
    sources: Page, hub: Hub, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = kinds(sources)["ollama"]
    with ollama.OllamaDouble() as registry:
        monkeypatch.setitem(ENDPOINTS, "MODELBAY_OLLAMA_ENDPOINT", registry.registry)
        path = written(sources.text(*names), web, tmp_path)
        with opened(hub, tmp_path) as bay:
            for entry in bay.provision(path).entries:
                name = f"library/{entry.keys['model']}:{entry.keys.get('tag', 'latest')}"
                registry.put(name, {"model": ollama.weights(entry.id)})
        came = runs(path, hub, tmp_path)

    assert [path.name for path in came].count("model.gguf") == len(names)


def test_models_of_the_hub_run_as_the_sources_page_has_them(
    sources: Page, hub: Hub, web: Web, tmp_path: Path
):
    path = written(sources.text(*kinds(sources)["huggingface"]), web, tmp_path)
    came = runs(path, hub, tmp_path)

    root = tmp_path / "workspace/sdnext/models/llm"
    names = {path.relative_to(root).as_posix() for path in came}
    mistral = root / "mistral-7b-safetensors"
    assert {path.name for path in mistral.iterdir()} == set(MISTRAL_FILES)
    assert (root / "llama-2-7b/model.safetensors").read_bytes() == content(
        LLAMA, "model.safetensors"
    )
    assert "bert-base/README.md" in names
    assert "llama/config.json" in names


def test_models_of_s3_run_as_the_sources_page_has_them(
    sources: Page, hub: Hub, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = kinds(sources)["s3"]
    with S3Double(region=None) as store:
        keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret/+key"}
        for variable, value in {**keys, "AWS_ENDPOINT_URL_S3": store.endpoint}.items():
            monkeypatch.setitem(ENDPOINTS, variable, value)
        text = sources.text(*names).replace("http://minio.local:9000", store.endpoint)
        path = written(text, web, tmp_path)
        with opened(hub, tmp_path) as bay:
            for entry in bay.provision(path).entries:
                for name in ("config.json", "model.safetensors"):
                    body = weights(entry.id) if name.endswith("s") else b"{}"
                    store.put(str(entry.keys["bucket"]), f"{entry.keys['prefix']}{name}", body)
        came = runs(path, hub, tmp_path)

    assert len(came) == 2 * len(names)


def test_an_archive_at_an_address_runs_as_the_sources_page_has_it(
    sources: Page, hub: Hub, web: Web, tmp_path: Path
):
    names = kinds(sources)["url"]
    came = runs(written(sources.text(*names), web, tmp_path), hub, tmp_path)

    assert {path.name for path in came} == set(MEMBERS)
    assert len(came) == len(names) * len(MEMBERS)


def test_the_mock_runs_and_its_hash_from_nix_is_told_as_one(
    sources: Page, hub: Hub, web: Web, tmp_path: Path
):
    names = kinds(sources)["mock"]
    pinned = written(sources.text(*names), web, tmp_path)
    with opened(hub, tmp_path) as bay, pytest.raises(IntegrityError) as caught:
        bay.sync(pinned)

    assert "from Nix are of an archive it makes (NAR)" in caught.value.hint
    unpinned = re.sub(r'hash = "sha256-[^"]*"\n', "", pinned.read_text())
    came = runs(written(unpinned, web, tmp_path), hub, tmp_path)
    assert {path.relative_to(tmp_path / "workspace/sdnext/models/llm").as_posix() for path in came} == {
        "config.json", "test-model/config.json", "test-model/tokenizer.json",
    }  # fmt: skip


def test_the_placeholder_for_a_hash_is_refused_at_its_line(hub: Hub, web: Web, tmp_path: Path):
    (block,) = [block for block in blocks(PAGES[1], "nix") if '"bert-base"' in block]
    found = Page()
    found.add(block)
    path = written(found.text(), web, tmp_path)
    line = path.read_text().splitlines().index('hash = "sha256-..."') + 1

    with opened(hub, tmp_path) as bay, pytest.raises(FormatError) as caught:
        bay.provision(path)
    assert str(caught.value).startswith(f"{path}:{line}:1: ")
    assert "the placeholder from a document" in str(caught.value)
