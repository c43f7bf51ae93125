"""A broker over TLS is who it says it is."""

from __future__ import annotations

import ssl

import pytest
from kombu import Connection

from embedq.broker import checking_certificates


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("redis://host/0", "redis://host/0"),
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_ca_certs=/a", "rediss://host/0?ssl_ca_certs=/a&ssl_cert_reqs=required"),
        ("rediss://host/0?ssl_cert_reqs=none", "rediss://host/0?ssl_cert_reqs=none"),
    ],
)
def test_certificates_are_checked_unless_told_otherwise(url: str, used: str) -> None:
    """kombu itself checks none where the URL says nothing."""
    assert checking_certificates(url) == used


def test_kombu_understands_it() -> None:
    """And gives it to redis-py."""
    with Connection(checking_certificates("rediss://127.0.0.1:1/0")) as connection:
        assert connection.transport.client.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
