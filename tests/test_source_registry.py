import subprocess
import sys

import pytest

from modelbay.credentials import Credentials
from modelbay.errors import UsageError
from modelbay.http import Client
from modelbay.sources import all_sources, load, names
from modelbay.sources.base import Means, Source

MEANS = Means(Client(), Credentials({}))


def test_the_bundled_sources_are_listed():
    assert {"huggingface", "mock", "url"} <= set(names())


def test_listing_the_names_imports_no_source_and_no_http():
    program = (
        "import sys; from modelbay.sources import names; names(); "
        "print([m for m in sys.modules if m.startswith(('modelbay.sources.', 'modelbay.http', 'httpx2'))])"
    )

    ran = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", names())
def test_every_source_keeps_the_contract(name):
    source: Source = load(name)(MEANS)

    assert source.name == name
    assert source.schemes
    assert all(option.name.isidentifier() and option.help for option in source.options)


def test_all_sources_are_made_each_from_its_own_means():
    asked = []

    def means(name: str) -> Means:
        asked.append(name)
        return MEANS

    made = all_sources(means)

    assert tuple(made) == tuple(asked) == names()


def test_an_unknown_source_is_refused_with_the_known_ones():
    with pytest.raises(UsageError) as raised:
        load("hugingface")

    assert "huggingface" in raised.value.hint
