"""Google Drive, against a double that answers as the recorded pages do, and those pages."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import (
    CredentialMissing,
    CredentialRefused,
    FormatError,
    LoginPage,
    ModelbayError,
    ModelNotFound,
    PolicyError,
    RateLimited,
    RefError,
    UnsafeName,
)
from modelbay.http import Client, Hosts
from modelbay.http.hosts import Patience
from modelbay.location import Http
from modelbay.refs import parse
from modelbay.sources.base import Means, Source
from modelbay.sources.gdrive import GDrive
from modelbay.wire.gdrive_pages import folder_in, page_in
from tests.doubles.gdrive import DriveDouble, Mode, Shared
from tests.syncing import Machine

CLIENT = Client(hosts=Hosts(Patience(backoff=0.01, tries=3)))
FILE = "1cKSdgtWrPgvEsBGmjWALOH33taGyVXKb"
FOLDER = "1KpLl_1tcK0eeehzN980zbG-3M2nhbVks"
LINK = f"https://drive.google.com/file/d/{FILE}/view"
FOLDER_LINK = f"https://drive.google.com/drive/folders/{FOLDER}"
GGUF = b"GGUF" + bytes(range(256)) * 64
FIXTURES = Path(os.environ.get("MODELBAY_FIXTURES", "/work/shared/fixtures")) / "gdrive"


@pytest.fixture(scope="module", autouse=True)
def _closed_client() -> Iterator[None]:
    yield
    CLIENT.close()


@pytest.fixture
def drive() -> Iterator[DriveDouble]:
    with DriveDouble({FILE: Shared("model.gguf", GGUF)}) as double:
        yield double


def source(endpoint: str | None = None, environ: dict[str, str] | None = None) -> GDrive:
    return GDrive(Means(CLIENT, Credentials(environ or {}), endpoint))


def machine(drive: DriveDouble, home: Path, **more: str) -> Machine:
    return Machine(None, home, {"MODELBAY_GDRIVE_ENDPOINT": drive.url, **more})


def test_it_is_a_source():
    made: Source = source()

    assert made.recognise("https://host/file") is None


@pytest.mark.parametrize(
    "text",
    [
        LINK,
        f"https://drive.google.com/file/d/{FILE}",
        f"https://drive.google.com/file/d/{FILE}/edit?usp=sharing",
        f"https://drive.google.com/file/u/1/d/{FILE}/preview",
        f"https://drive.google.com/open?id={FILE}",
        f"https://drive.google.com/uc?export=download&id={FILE}",
        f"https://drive.google.com/u/4/uc?id={FILE}&confirm=t",
        f"https://drive.google.com/a/example.com/file/d/{FILE}/view",
        f"https://drive.usercontent.google.com/download?id={FILE}&export=download",
        f"https://docs.google.com/uc?id={FILE}",
        f"gdrive:{FILE}",
    ],
)
def test_every_form_of_a_link_to_a_file_is_the_same_ref(text):
    made = source()

    assert str(parse(text, [made])) == LINK == str(parse(LINK, [made]))


@pytest.mark.parametrize(
    "text",
    [
        FOLDER_LINK,
        f"https://drive.google.com/drive/u/0/folders/{FOLDER}?usp=sharing",
        f"https://drive.google.com/embeddedfolderview?id={FOLDER}#list",
        f"gdrive:folders/{FOLDER}",
    ],
)
def test_every_form_of_a_link_to_a_folder_is_the_same_ref(text):
    assert str(parse(text, [source()])) == FOLDER_LINK


def test_a_resource_key_stays_with_its_link():
    ref = parse(f"{LINK}?usp=sharing&resourcekey=0-aB_c", [source()])

    assert str(ref) == f"{LINK}?resourcekey=0-aB_c" == str(parse(str(ref), [source()]))


def test_a_google_document_is_no_model():
    with pytest.raises(RefError, match="Google document"):
        parse(
            "https://docs.google.com/document/d/1aMZqPaU03E7XOQNXtjSCdguRHBaIQ82m/edit", [source()]
        )


def test_resolving_twice_gives_the_same_snapshot(drive):
    made = source(drive.url)

    first, second = (made.resolve(parse(LINK, [made])) for _ in range(2))

    assert first == second
    assert [(file.path, file.size) for file in first.files] == [("model.gguf", len(GGUF))]
    assert first.table == {"file-id": FILE}


@pytest.mark.parametrize("mode", ["small", "big", "post", "lines", "chunked", "busy-once"])
def test_a_file_is_fetched_however_drive_hands_it_out(drive, tmp_path, mode):
    drive.things[FILE] = Shared("Modell ü.gguf", GGUF, mode)

    said = machine(drive, tmp_path).run("get", LINK, "--to", tmp_path / "here", "--yes")

    assert said.code == 0, said.err
    assert (tmp_path / "here/Modell ü.gguf").read_bytes() == GGUF


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("quota", RateLimited),
        ("private", CredentialMissing),
        ("missing", ModelNotFound),
        ("unknown-page", LoginPage),
        ("infected", PolicyError),
    ],
)
def test_each_page_in_place_of_a_file_is_an_error_of_its_own(drive, mode, expected):
    drive.elsewhere = drive.url
    drive.things[FILE] = Shared("model.gguf", GGUF, mode)
    made = source(drive.url)

    with pytest.raises(expected) as raised:
        made.resolve(parse(LINK, [made]))

    assert LINK in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize(
    ("mode", "code"), [("quota", 6), ("late-quota", 6), ("private", 3), ("missing", 8)]
)
def test_the_exit_code_says_what_kind_of_trouble_it_was(drive, tmp_path, mode, code):
    drive.elsewhere = drive.url
    drive.things[FILE] = Shared("model.gguf", GGUF, mode)

    assert machine(drive, tmp_path).run("get", LINK, "--to", tmp_path / "x").code == code


def test_a_token_that_is_refused_is_named_and_not_shown(drive, tmp_path):
    drive.elsewhere = drive.url
    drive.things[FILE] = Shared("model.gguf", GGUF, "private")
    own = machine(drive, tmp_path, MODELBAY_TOKEN_127_0_0_1="canary-of-drive")

    said = own.run("get", LINK, "--to", tmp_path / "x")

    assert said.code == 3
    assert "MODELBAY_TOKEN_127_0_0_1" in said.err
    assert "canary" not in said.err + said.out
    with pytest.raises(CredentialRefused):
        source(drive.url, {"MODELBAY_TOKEN_127_0_0_1": "x"}).resolve(parse(LINK, [source()]))


def test_a_form_that_leads_elsewhere_is_not_followed(drive, tmp_path):
    with DriveDouble() as foreign:
        drive.elsewhere = foreign.url
        drive.things[FILE] = Shared("model.gguf", GGUF, "foreign-form")
        own = machine(drive, tmp_path, MODELBAY_TOKEN_127_0_0_1="canary")

        said = own.run("get", LINK, "--to", tmp_path / "x")

        assert said.code == 3
        assert foreign.asked == []


def test_a_login_on_another_host_gets_no_credential(drive, tmp_path):
    with DriveDouble() as foreign:
        drive.elsewhere = foreign.url
        drive.things[FILE] = Shared("model.gguf", GGUF, "private")

        machine(drive, tmp_path, MODELBAY_TOKEN_127_0_0_1="canary").run("get", LINK)

        assert foreign.asked
        assert all("authorization" not in one.headers for one in foreign.asked)
        assert all("cookie" not in one.headers for one in foreign.asked)
        assert any("authorization" in one.headers for one in drive.asked)


def test_a_resource_key_opens_what_it_belongs_to(drive):
    drive.elsewhere = drive.url
    drive.things[FILE] = Shared("model.gguf", GGUF, "big", resource_key="0-key")
    made = source(drive.url)

    snapshot = made.resolve(parse(f"{LINK}?resourcekey=0-key", [made]))

    assert snapshot.table == {"file-id": FILE, "resource-key": "0-key"}
    assert isinstance(made.locate(snapshot, snapshot.files[0]), Http)
    with pytest.raises(ModelbayError, match="not shared"):
        made.resolve(parse(LINK, [made]))


def shelf(drive: DriveDouble) -> None:
    drive.things |= {
        FOLDER: Shared(
            "Models", children=[("a & b.gguf", "aaa1"), ("sub", "fff1"), ("n", "doc-1")]
        ),
        "aaa1": Shared("a & b.gguf", GGUF),
        "fff1": Shared("sub", children=[("c.gguf", "ccc1"), ("up", FOLDER)]),
        "ccc1": Shared("c.gguf", GGUF + b"c", resource_key="0-c"),
    }


def test_a_folder_is_its_files_and_those_of_its_folders(drive):
    shelf(drive)
    made = source(drive.url)

    snapshot = made.resolve(parse(FOLDER_LINK, [made]))

    assert [str(file.path) for file in snapshot.files] == ["a & b.gguf", "sub/c.gguf"]
    assert snapshot.table == {"folder-id": FOLDER}
    assert any("Google document" in note for note in snapshot.notes)


@pytest.mark.parametrize("name", ["../up.gguf", "a/b.gguf", "con.txt", "x\u202e.gguf"])
def test_a_hostile_name_in_a_folder_is_refused(drive, name):
    drive.things[FOLDER] = Shared("Models", children=[(name, "aaa1")])
    made = source(drive.url)

    with pytest.raises(UnsafeName):
        made.resolve(parse(FOLDER_LINK, [made]))


PROVISION = f"""
[models.llm.small]
url = "{LINK}?usp=sharing"

[models.llm.several]
source = "gdrive"
url = "{FOLDER_LINK}"
"""


def test_a_lock_of_drive_is_synced_on_an_empty_machine_without_listing(drive, tmp_path):
    shelf(drive)
    first = machine(drive, tmp_path / "one")
    assert (code := first.run("lock", first.write("m.toml", PROVISION))).code == 0, code.err
    lock = (first.home / "m.lock.toml").read_text()
    before = len(drive.asked)

    second = machine(drive, tmp_path / "two")
    said = second.run("sync", second.write("m.lock.toml", lock), "--yes")

    assert said.code == 0, said.err
    assert f'gdrive = {{ file-id = "{FILE}" }}' in lock
    assert not [one for one in drive.asked[before:] if "folder" in one.path]
    assert sorted(second.files().values()) == sorted([GGUF, GGUF, GGUF + b"c"])
    assert second.run("verify").code == 0
    assert second.run("sync", second.home / "m.lock.toml", "--check", "--deep").code == 0


def test_other_bytes_than_were_locked_are_refused(drive, tmp_path):
    own = machine(drive, tmp_path)
    own.run("lock", own.write("m.toml", f'[models.llm]\nx = "{LINK}"\n'))
    other = machine(drive, tmp_path / "other")
    drive.things[FILE] = Shared("model.gguf", GGUF[:-1] + b"!")

    said = other.run("sync", own.home / "m.lock.toml", "--yes")

    assert said.code == 5
    assert other.files() == {}


def test_a_lock_whose_id_was_changed_is_refused(drive):
    made = source(drive.url)

    with pytest.raises(FormatError, match="another file"):
        made.ref_in({"file-id": "somebody-elses"}, parse(LINK, [made]))


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(tmp_path):
    import threading

    body = b"GGUF" + os.urandom(24 << 20)
    with DriveDouble({FILE: Shared("model.gguf", body, "big")}) as drive:
        drive.slow = threading.Event()
        own = machine(drive, tmp_path)
        process = own.start("get", LINK, "--to", tmp_path / "here", "--progress", "none")
        journals = tmp_path / "here/.modelbay/parts"
        until = time.monotonic() + 20
        while not list(journals.glob("*.journal")) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        drive.slow.set()
        before = len(drive.starts())

        said = own.run("get", LINK, "--to", tmp_path / "here", "--yes")

        assert said.code == 0, said.err
        found = (tmp_path / "here/model.gguf").read_bytes()
        assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
        assert min(drive.starts()[before:]) > 0


def recorded() -> list[Path]:
    return sorted(FIXTURES.glob("*.html")) if FIXTURES.is_dir() else []


@pytest.mark.skipif(not recorded(), reason="the recorded answers of Google Drive are not here")
class TestRecorded:
    def test_every_recorded_page_is_what_its_name_says(self):
        kinds = {"virus": "warning", "quota": "quota", "login": "private", "folder": "page"}
        found = {
            path.name: page_in(path.read_text(), "https://drive.google.com/").kind
            for path in recorded()
        }

        assert len(found) == 8
        assert {kind for name, kind in found.items() if kind != kinds[name.split("-")[0]]} == set()

    @pytest.mark.parametrize("path", recorded(), ids=lambda path: path.name)
    def test_every_recorded_form_has_its_fields_whole(self, path):
        form = page_in(path.read_text(), "https://drive.google.com/").form
        if form is None:
            assert not path.name.startswith("virus")
            return
        fields = dict(form.fields)

        assert {"id", "export", "confirm", "uuid"} <= set(fields)
        assert not any("&" in value or "amp;" in value for value in fields.values())
        assert form.action.startswith("https://drive.")
        assert "?" not in form.action

    def test_recorded_folders_are_read_line_by_line(self):
        reduced = folder_in((FIXTURES / "folder-embeddedview-gdown-sample.html").read_text())
        real = folder_in((FIXTURES / "folder-embeddedview.real-fragments.html").read_text())

        assert [(one.name, one.kind) for one in reduced.entries] == [
            ("file_00.txt", "file"), ("file_01.txt", "file"),
            ("photo.jpg", "file"), ("subfolder", "folder"),
        ]  # fmt: skip
        assert [(one.name, one.kind) for one in real.entries] == [
            ("Pepsi Ad Creative 2.mp4", "file"),
            ("shamrock_&_house", "folder"),
            ("30628-SILABO.pdf", "file"),
            ("4.HAFTA_(21-27 EYLÜL 2026)", "unknown"),
        ]
        assert (reduced.name, real.name) == ("files_100", "Sample Videos")

    def test_the_recorded_headers_of_a_download_name_their_file(self):
        from modelbay.sources.disposition import name_in

        lines = (FIXTURES / "download-200.2016.headers").read_text().splitlines()
        (told,) = (line for line in lines if line.startswith("Content-Disposition"))

        assert name_in(told.partition(": ")[2]) == "uf7bv2kqsdro"

    def test_recorded_ids_are_ids(self):
        made, seen = source(), 0
        for path in FIXTURES.glob("gdown-*.csv"):
            for line in path.read_text().split():
                ident = line.partition(",")[0]
                assert str(parse(f"https://drive.google.com/open?id={ident}", [made])).count(ident)
                seen += 1

        assert seen == 13


def shared_file(drive: DriveDouble, text: str, mode: Mode = "small") -> None:
    drive.things["prov"] = Shared("models.toml", text.encode(), mode)


PROVISION_LINK = "https://drive.google.com/file/d/prov/view?usp=sharing"


@pytest.mark.parametrize("mode", ["small", "big"])
def test_a_provision_file_on_drive_is_synced(drive, tmp_path, mode):
    shared_file(drive, f'[models.vae]\nx = "{LINK}"\n', mode)
    own = machine(drive, tmp_path)

    said = own.run("sync", PROVISION_LINK, "--yes")

    assert said.code == 0, said.err
    assert list(own.files().values()) == [GGUF]
    assert "not trusted" in said.err


def test_a_provision_file_on_drive_is_no_more_trusted_than_another(drive, tmp_path):
    shared_file(drive, f'workspace = "/tmp/x"\n[models.vae]\nx = "{LINK}"\n')

    said = machine(drive, tmp_path).run("sync", PROVISION_LINK, "--yes")

    assert said.code == 4
    assert "not trusted" in said.err


@pytest.mark.parametrize(("mode", "code"), [("quota", 6), ("private", 3), ("missing", 8)])
def test_trouble_with_a_provision_file_on_drive_is_told_as_for_a_model(drive, tmp_path, mode, code):
    drive.elsewhere = drive.url
    shared_file(drive, "", mode)

    assert machine(drive, tmp_path).run("sync", PROVISION_LINK, "--yes").code == code


def test_a_folder_is_no_provision_file(drive, tmp_path):
    shelf(drive)

    said = machine(drive, tmp_path).run("sync", FOLDER_LINK, "--yes")

    assert said.code == 2
    assert "is a folder" in said.err
