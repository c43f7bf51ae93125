"""Who may look: user and password from the environment, and on which addresses one can do without."""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from embedq.errors import ConfigurationError
from embedq_worker.secret import Secret, check_key
from embedq_worker.settings import secret_in_file

DEFAULT_USER = "embedq"


class Access(NamedTuple):
    """The one user; without a password everybody may look who can reach a loopback address."""

    user: str = DEFAULT_USER
    """``EMBEDQ_FLOWER_USER``: the user whom ``embedq flower`` lets in. Default "embedq"."""

    password: Secret | None = None
    """``EMBEDQ_FLOWER_PASSWORD``, or what is in ``EMBEDQ_FLOWER_PASSWORD_FILE``: that user's password.
    Default: none, and ``embedq flower`` listens on loopback addresses only."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Access:
        """Read ``EMBEDQ_FLOWER_USER``, and ``EMBEDQ_FLOWER_PASSWORD`` or ``_FILE``.

        Empty ones count as unset.
        Raises ``ConfigurationError``.
        """
        user = environ.get("EMBEDQ_FLOWER_USER") or DEFAULT_USER
        if ":" in user:  # basic authentication ends the user there
            raise ConfigurationError("EMBEDQ_FLOWER_USER: a user's name holds no colon")
        return cls(user, _password(environ))

    def check(self, address: str, *, is_read_only: bool) -> None:
        """Raises ``ConfigurationError`` where these need a password and there is none."""
        if self.password is not None:
            return
        if not is_loopback(address):
            raise ConfigurationError(
                f"Flower does not listen on {address!r} without a password: set EMBEDQ_FLOWER_PASSWORD or "
                "EMBEDQ_FLOWER_PASSWORD_FILE, or leave it on 127.0.0.1"
            )
        if not is_read_only:
            raise ConfigurationError(
                "Flower does not take --read-write without a password: set EMBEDQ_FLOWER_PASSWORD or "
                "EMBEDQ_FLOWER_PASSWORD_FILE"
            )

    @property
    def credentials(self) -> str | None:
        """User and password as basic authentication has them, before base64; None without a password."""
        return None if self.password is None else f"{self.user}:{self.password.reveal()}"

    @property
    def header(self) -> dict[str, str]:
        """What a client of ours sends."""
        credentials = self.credentials
        if credentials is None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}

    def admits(self, authorization: str | None) -> bool:
        """Whether a request with this header, or none, is let in."""
        credentials = self.credentials
        if credentials is None:
            return True
        # In the time that it takes whatever was sent.
        return hmac.compare_digest(_decoded(authorization or ""), credentials.encode())


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address; of names ``localhost`` alone is taken to be one."""
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


def _decoded(authorization: str) -> bytes:
    scheme, _, encoded = authorization.partition(" ")
    try:
        return base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""


def _password(environ: Mapping[str, str]) -> Secret | None:
    given, file = environ.get("EMBEDQ_FLOWER_PASSWORD"), environ.get("EMBEDQ_FLOWER_PASSWORD_FILE")
    if given and file:
        raise ConfigurationError(
            "EMBEDQ_FLOWER_PASSWORD and EMBEDQ_FLOWER_PASSWORD_FILE are both set; unset one of them"
        )
    if file:
        return Secret(secret_in_file(file, "EMBEDQ_FLOWER_PASSWORD_FILE", Path()).reveal())
    try:
        return Secret(check_key(given)) if given else None
    except ValueError:
        raise ConfigurationError(
            "EMBEDQ_FLOWER_PASSWORD: a password has no spaces, and ASCII characters only"
        ) from None
