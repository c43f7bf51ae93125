"""A broker's URL means to a producer what it means to a worker, and over TLS it is who it says it is."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis
import redis.asyncio
from kombu import Connection

from embedq import ConfigurationError
from embedq.address import Address, checking_certificates


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


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host/",
        "redis://host:6380/3",
        "redis://:secret@host/0",
        "redis://user:s%40cret%2F@host:1/15",
        "rediss://user:secret@host:1/2",
        "rediss://host/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs=/tmp/ca.pem",
        "rediss://host/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss://host/0?ssl_certfile=/tmp/a.pem&ssl_keyfile=/tmp/a.key",
        "redis+socket:///run/redis/redis.sock",
        "redis+socket:///run/redis.sock?virtual_host=4",
        "redis+socket://user:secret@/run/redis.sock?virtual_host=4",
    ],
)
def test_it_is_read_as_kombu_reads_it(url: str) -> None:
    """Host, port, database, user, password, path and TLS are those that a worker would use."""
    ours = facts(redis.Redis.from_url(Address(url).url).connection_pool.connection_kwargs)
    with Connection(checking_certificates(url)) as connection:
        channel = connection.transport.Channel.__new__(connection.transport.Channel)
        channel.connection = connection.transport  # as its constructor does, which would connect
        theirs = facts(channel._connparams())

    assert ours == theirs


def facts(arguments: dict[str, Any]) -> dict[str, Any]:
    """What redis-py is told of a place, its defaults left out."""
    names = ("host", "port", "path", "db", "username", "password")
    found = {name: arguments.get(name) for name in names}
    found["port"] = found["port"] or (None if found["path"] else 6379)
    tls = {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    if "ssl_cert_reqs" in tls:
        tls["ssl_cert_reqs"] = (
            ssl.CERT_NONE if tls["ssl_cert_reqs"] in ("none", ssl.CERT_NONE) else ssl.CERT_REQUIRED
        )
    return found | tls


@pytest.mark.parametrize("second", ["sentinel://two", "two:26379"])
def test_sentinels(second: str) -> None:
    """Several hosts, each with its port, and the master's name, database and password."""
    address = Address(f"sentinel://:s%40cret@one:1;{second}/2?master_name=mymaster")

    assert address.sentinels == [("one", 1), ("two", 26379)]
    assert address.master == {"service_name": "mymaster", "db": 2, "password": "s@cret"}
    with pytest.raises(ConfigurationError, match="master_name"):
        _ = Address("sentinel://one:1/0").master


@pytest.mark.parametrize(
    "url", ["redis://user:hunter2@host/0", "sentinel://:hunter2@a;sentinel://:hunter2@b/0?x=hunter2"]
)
def test_secrets_are_not_shown(url: str) -> None:
    """Neither where it stands in an error nor in a representation."""
    assert "hunter2" not in Address(url).where + repr(Address(url))


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/more@host:6379/0",
        "redis://:12/hunter2@host:6379/0",
        "redis://:hunter2#more@host:6379/0",
        "redis://:12#hunter2@host/0",
        "redis://:hunter2?more@host:6379/0",
        "redis://:12?hunter2@host/0",
        "redis://:[hunter2@host/0",
        "redis+socket://:12/hunter2@/run/redis.sock",
        "sentinel://:hunter2/more@host:1/0?master_name=mymaster",
        "sentinel://one:1;:hunter2#more@two:1/0?master_name=mymaster",
        ":hunter2@host:6379",
        "hunter2",
    ],
)
def test_a_password_with_a_bare_sign_is_not_shown(url: str) -> None:
    """It ends where the sign stands, and the rest looks like a port, a path or a database."""
    with pytest.raises(ConfigurationError, match="as redis://") as refused:
        Address(url)

    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is refused.value.__context__ is None


@pytest.mark.parametrize("url", ["redis://host/0?client_name=me@here", "redis+socket:///run/@redis.sock"])
def test_a_sign_that_is_no_passwords(url: str) -> None:
    """It may stand where no password is."""
    assert "%40" in Address(url).url or "@redis.sock" in Address(url).url


@pytest.mark.parametrize("parameter", ["socket_timeout=soon", "colour=red", "ssl_cert_reqs=perhaps"])
@pytest.mark.parametrize("client", [redis.Redis, redis.asyncio.Redis])
def test_a_parameter_that_cannot_be_read(client: type[redis.Redis], parameter: str) -> None:
    """It is named, as a mistake of the configuration."""
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*(socket_timeout|colour|SSL.*perhaps)"):
        Address(f"rediss://host/0?{parameter}").open(client.from_url)
