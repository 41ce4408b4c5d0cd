"""Every fault of a provision file, told at its line: one small file for each, named after it.

A file ends with what is said about it: `#! line:column: sentence`, and `#> hint`.
"""

from pathlib import Path

import pytest

from modelbay.bay import Bay
from modelbay.errors import FormatError, UsageError
from modelbay.provision.reading import LARGEST

FAULTS = sorted((Path(__file__).parent / "provision_faults").glob("*.toml"))


def refusal(path: Path) -> FormatError:
    with Bay.open(environ={"HOME": str(path.parent)}) as bay, pytest.raises(FormatError) as caught:
        bay.provision(path)
    return caught.value


@pytest.mark.parametrize("path", FAULTS, ids=lambda path: path.stem)
def test_a_fault_is_told_at_its_line_with_what_to_write_instead(path: Path):
    lines = path.read_text().splitlines()
    error = refusal(path)

    assert [f"#! {str(error).removeprefix(f'{path}:')}", f"#> {error.hint}"] == lines[-2:]


def test_every_fault_says_that_a_file_cannot_be_read_as_what_it_should_be():
    assert issubclass(FormatError, UsageError)
    assert len(FAULTS) >= 45


def test_a_byte_that_is_not_utf_8_is_told_at_its_place(tmp_path: Path):
    path = tmp_path / "a.toml"
    path.write_bytes(b'folders = "sdnext"\n# \xff\n')

    assert str(refusal(path)) == f"{path}:2:3: a byte that is not UTF-8 was found"


def test_a_file_that_is_no_list_of_models_by_its_size_is_not_read_to_its_end(tmp_path: Path):
    path = tmp_path / "a.toml"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)

    assert "larger than 1 MiB" in str(refusal(path))


def test_no_sentence_shows_what_may_be_a_secret(tmp_path: Path):
    path = tmp_path / "a.toml"
    for text in (
        'auth = "hf_secret"',
        "headers = { Cookie = 'hf_secret\u0007' }",
        'headers = "hf_secret"',
    ):
        path.write_text(f'[models.vae.x]\nurl = "https://host/x"\n{text}\n')
        error = refusal(path)

        assert "hf_secret" not in f"{error} {error.hint}"
