"""Keys of an entry and the ref that they mean are two forms of one thing, for every source."""

import pytest

from modelbay.bay import Bay
from modelbay.config import Settings

REFS = [
    "hf://org/name", "hf://gpt2", "hf://datasets/org/name@v1", "hf://org/name@refs%2Fpr%2F1",
    "hf://org/name@v1?endpoint=https://hub.company.com",
    "https://host.example/a%20b/file.bin", "https://host.example/file?x=1&y=2",
    "http://host.example:8080/file", "url:https://huggingface.co/org/name",
    "civitai://58390", "civitai://58390+12", "civitai://model/4384",
    "civitai://58390?endpoint=https://civitai.company.com",
    "https://drive.google.com/file/d/abc/view?resourcekey=0-x",
    "https://drive.google.com/drive/folders/abc", "gdrive:abc",
    "mock://org/model", "mock://org/model@abcdef", "mock://org/m?files=a,b/c",
    "mock://org/m?files=a&content=random:10:x",
]  # fmt: skip


@pytest.mark.parametrize("text", REFS)
def test_the_keys_of_a_ref_mean_that_ref(text: str) -> None:
    with Bay.open(settings=Settings(), environ={"HOME": "/nowhere"}) as bay:
        ref = bay.parse(text)
        source = bay.source(ref.source)
        back = source.ref_of(source.keys_of(ref))

    assert (back.name, back.revision, back.options) == (ref.name, ref.revision, ref.options)
    assert set(source.keys_of(ref)) <= {option.name for option in source.options}
