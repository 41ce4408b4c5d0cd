"""Certificates: rows 28 and 29."""

import pytest

from modelbay.errors import TlsRefused
from tests.faults import catalogue
from tests.faults.certificates import Authority
from tests.faults.harness import CUT, LARGE, PIECE, Fetching, refetched
from tests.faults.server import FaultServer
from tests.faults.test_server import bad_context


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("self-signed", "self-signed"),
        ("wrong-host", "mismatch|not valid for"),
        ("expired", "expired"),
        ("old-protocol", "no safe connection"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
def test_a_bad_certificate_is_refused_once_and_says_why(
    fetching: Fetching, authority: Authority, monkeypatch: pytest.MonkeyPatch, bad, reason
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with FaultServer(LARGE, tls=bad_context(authority, bad)) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, TlsRefused)
        with pytest.raises(TlsRefused, match=reason):
            raise failure
        assert server.connections == 1
        assert server.log == []


def test_a_private_authority_is_not_trusted_by_itself_and_the_hint_says_how(
    fetching: Fetching, authority: Authority
):
    with FaultServer(LARGE, tls=authority.server()) as server:
        failure = fetching.get(server).failure

        assert isinstance(failure, TlsRefused)
        assert "SSL_CERT_FILE" in failure.hint


def test_a_private_authority_named_in_ssl_cert_file_works(
    fetching: Fetching, authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with FaultServer(LARGE, tls=authority.server()) as server:
        assert fetching.get(server).bytes == LARGE.body


@pytest.mark.parametrize("broken", [catalogue.reset(after=CUT), catalogue.early_fin(after=CUT)])
def test_a_body_that_breaks_off_inside_tls_goes_on_where_it_broke(
    fetching: Fetching, authority: Authority, monkeypatch: pytest.MonkeyPatch, broken
):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    with FaultServer(LARGE, catalogue.first(3, broken), tls=authority.server()) as server:
        assert fetching.get(server).bytes == LARGE.body
        assert refetched(server) <= PIECE
