"""The users of docker/redis/users.acl on a server of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis

from embedq_worker.embedded.valkey import Valkey
from tests.support.pages import ROOT

USERS = ("admin", "worker", "producer", "monitor")


def users_of(server: Valkey, folder: Path) -> dict[str, str]:
    """Make the users, and no other; returns the broker's URL for each. ``folder`` takes their passwords."""
    acl = ROOT / "docker/redis/users.acl"
    command = ["sh", str(ROOT / "docker/make-secrets"), str(folder), str(folder), str(acl)]
    subprocess.run(command, check=True, capture_output=True)
    with redis.Redis.from_url(server.url) as client:
        for line in (folder / "redis/users.acl").read_text().splitlines():
            client.execute_command("ACL SETUSER", *line.split()[1:])
    here = f"127.0.0.1:{server.port}"
    return {user: (folder / user / "broker_url").read_text().replace("redis:6379", here) for user in USERS}
