"""Where Redis is: the URL that kombu takes, read for redis-py's clients.

``redis://``, ``rediss://``, ``redis+socket://`` and ``sentinel://`` mean what they mean to a worker; a test
holds this reading against kombu's, whose import alone takes as long as many a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from embedq.errors import ConfigurationError
from embedq.retries import RETRY_SECONDS, SOCKET_SECONDS, foreign_errors

_HEALTH_CHECK_SECONDS = 25
"""After so long without a command a connection is tried before it is used, as by kombu."""
_SOCKETS = ("redis+socket", "socket", "unix")
_SCHEMES = ("redis", "rediss", *_SOCKETS, "sentinel")
_SENTINEL_PORT = 26379

T = TypeVar("T")


def checking_certificates(url: str) -> str:
    """The URL of a broker over TLS such that kombu checks the server's certificate, which it does not by
    itself; one that says something of ``ssl_cert_reqs`` is left as it is."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


class Address:
    """A broker's URL, and what redis-py has to know of it. Raises ``ConfigurationError``."""

    def __init__(self, url: str) -> None:
        self.scheme = _scheme(url)
        self._url = checking_certificates(url)
        if not all(map(_is_readable, self._hosts())):
            raise ConfigurationError(
                "the broker URL cannot be read: give it as redis://:password@host:6379/0, with the signs "
                "/ ? # @ : % of a password as %2F %3F %23 %40 %3A %25"
            )

    def __repr__(self) -> str:
        return f"<Address {self.scheme}>"

    @property
    def for_kombu(self) -> str:
        """The URL that was given, with the server's certificate checked."""
        return self._url

    @property
    def where(self) -> str:
        """The URL without what may be secret: user, password, parameters."""
        return re.sub(r"(?<=://)[^/]*@", "", self._url).partition("?")[0]

    @property
    def url(self) -> str:
        """The URL as redis-py reads it, which takes a wrong database for none, and other words for TLS."""
        parts = urlsplit(self._url)
        query = dict(parse_qsl(parts.query))
        if self.scheme in _SOCKETS:
            database = _database(query.pop("virtual_host", query.pop("db", "")))
            return f"unix://{parts.netloc}{parts.path}?{urlencode(query | {'db': database})}"
        if "ssl_cert_reqs" in query:
            query["ssl_cert_reqs"] = query["ssl_cert_reqs"].lower().removeprefix("cert_")
        path = f"/{_database(unquote(parts.path).strip('/'))}"
        return parts._replace(path=path, query=urlencode(query)).geturl()

    @property
    def options(self) -> dict[str, Any]:
        """What every connection is given. It is not retried by redis-py: ``retries.py`` does that."""
        options = {"socket_timeout": SOCKET_SECONDS, "health_check_interval": _HEALTH_CHECK_SECONDS}
        if self.scheme in _SOCKETS:
            return options
        return options | {"socket_connect_timeout": RETRY_SECONDS, "socket_keepalive": True}

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """The hosts and ports of ``sentinel://one:26379;sentinel://two:26379/0?master_name=…``."""
        hosts = map(urlsplit, self._hosts())
        return [(host.hostname or "127.0.0.1", host.port or _SENTINEL_PORT) for host in hosts]

    @property
    def master(self) -> dict[str, Any]:
        """Of Sentinel's master: its ``service_name``, database, user and password."""
        hosts = self._hosts()
        first, last = urlsplit(hosts[0]), urlsplit(hosts[-1])
        name = dict(parse_qsl(last.query)).get("master_name")
        if not name:
            raise ConfigurationError(
                "the broker URL names no master: add it, as in sentinel://host:26379/0?master_name=mymaster"
            )
        secrets = {"username": first.username, "password": first.password}
        given = {word: unquote(value) for word, value in secrets.items() if value}
        return {"service_name": name, "db": _database(last.path.strip("/")), **given}

    def open(self, from_url: Callable[..., T], **options: Any) -> T:
        """What redis-py makes of the URL. Raises ``ConfigurationError`` where it cannot read a parameter."""
        unreadable: tuple[type[Exception], ...] = (TypeError, ValueError, *foreign_errors())
        try:
            made = from_url(self.url, **self.options, **options)
            pool: Any = getattr(made, "connection_pool", made)
            pool.connection_class(**pool.connection_kwargs)  # which connects to nothing yet
        except unreadable as error:
            raise ConfigurationError(f"the broker URL cannot be used: {error}") from None
        return made

    def _hosts(self) -> list[str]:
        """The URL; of Sentinels, one of each."""
        parts = self._url.split(";") if self.scheme == "sentinel" else [self._url]
        return [part if "://" in part else f"sentinel://{part}" for part in parts]


def pools_of(client: Any) -> list[Any]:
    """The connection pools of a client, those to Sentinels too, which redis-py leaves open."""
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    sentinels = manager.sentinels if manager else []
    return [client.connection_pool, *(sentinel.connection_pool for sentinel in sentinels)]


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if scheme in _SCHEMES:
        return scheme
    # Without the separator it may be anything, a password too.
    found = f"the scheme {scheme[:20]!r}, not one of {', '.join(_SCHEMES)}" if separator else "no scheme"
    raise ConfigurationError(f"the broker URL has {found}; give it as redis://host:6379/0")


def _is_readable(url: str) -> bool:
    """Whether each part is what it is taken for: a password with a bare sign in it ends early, and its rest
    would be shown as a port, a path or a database."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    behind = parts.path + parts.fragment + parts.query.partition("=")[0]
    return not (parts.netloc and "@" in behind)


def _database(name: str) -> int:
    if name and not name.isdecimal():
        raise ConfigurationError(
            f"the broker URL cannot be used: its database is {name[:20]!r}, not a number"
        )
    return int(name or 0)
