"""What is in docker/: the files agree with the code and with each other, and hold no secret."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # PyYAML has no types

from embedq_worker.settings import Settings, WorkerSettings
from tests.support.variables import variables_read

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
OURS = ("migrate", "worker", "flower", "secrets")
SCRIPTS = ("make-secrets", "run-with-secrets")
GENERATED = ("postgres/password", "redis/password", "flower/password")

SECRET_LIKE = re.compile(
    r"sk-[A-Za-z0-9]{8}"
    r"|://[^\s:/@]*:[^\s%$@{]+@"  # a URL with a password; %s and $… stand for one
    r"|(?i:password|passwd|token|api_key)['\"]?[ \t]*[:=][ \t]*['\"]?[A-Za-z0-9]{6,}"
)


def compose() -> dict[str, Any]:
    """The parsed compose file."""
    parsed: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    return parsed


def files() -> list[Path]:
    """Every file of docker/ that belongs to the repository."""
    return [path for path in DOCKER.rglob("*") if path.is_file() and path.parent != DOCKER / "secrets"]


def make_secrets(given: Path, secrets: Path) -> subprocess.CompletedProcess[str]:
    """Run the script over two folders."""
    command = ["sh", str(DOCKER / "make-secrets"), str(given), str(secrets)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def seconds(duration: str) -> int:
    """A duration of the compose file."""
    assert re.fullmatch(r"\d+s", duration)
    return int(duration[:-1])


def test_every_variable_named_is_one_that_the_code_reads() -> None:
    """A misspelt EMBEDQ_* variable would be ignored without a word."""
    named = {name for path in files() for name in re.findall(r"EMBEDQ_[A-Z_]*[A-Z]", path.read_text("utf-8"))}

    assert {"EMBEDQ_BROKER_URL", "EMBEDQ_DATABASE_URL", "EMBEDQ_API_BASE_URL"} <= named
    assert named <= variables_read()


def test_no_secret_is_in_the_files() -> None:
    """Passwords and keys come from docker/secrets or are made, and neither is in git or the image."""
    found = {path.name: SECRET_LIKE.findall(path.read_text("utf-8")) for path in files()}

    assert not {name: hits for name, hits in found.items() if hits}
    assert (DOCKER / "secrets/.gitignore").read_text("utf-8").split("\n")[1:3] == ["*", "!.gitignore"]
    taken = (ROOT / ".dockerignore").read_text("utf-8")
    assert "\n*\n" in taken
    assert "secrets\n" not in taken.replace("!docker/make-secrets\n", "").replace(
        "!docker/run-with-secrets\n", ""
    )


@pytest.mark.parametrize("text", ["redis://:hunter2@redis", "POSTGRES_PASSWORD: hunter22", "sk-0123456789"])
def test_the_search_for_secrets_finds_some(text: str) -> None:
    """The expression above does see what it is meant to see."""
    assert SECRET_LIKE.search(text)


def test_no_environment_in_the_compose_file_holds_a_secret() -> None:
    """`docker inspect` shows the environment of a container: only names of files may be in it."""
    for service in compose()["services"].values():
        names = set(service.get("environment", {}))
        secret = {name for name in names if re.search("PASSWORD|KEY|TOKEN|_URL", name)}
        assert secret <= {"EMBEDQ_API_BASE_URL"}


def test_a_service_is_confined_and_sees_its_own_secrets_only() -> None:
    """No capability, no writable root; Flower cannot read the database's password or the key."""
    services = compose()["services"]
    for name in OURS:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]

    def secrets(name: str) -> set[str]:
        return {volume.partition("-")[0] for volume in services[name]["volumes"] if "-secrets:" in volume}

    assert secrets("flower") == {"redis", "flower"}
    assert secrets("worker") == {"redis", "postgres", "api"}
    assert secrets("migrate") == secrets("postgres") == {"postgres"}
    assert secrets("redis") == {"redis"}


def test_workers_scale_and_drain() -> None:
    """Nothing fixed stands in the way of a second worker, and stopping leaves time to drain."""
    worker = compose()["services"]["worker"]

    assert not {"container_name", "ports", "hostname"} & set(worker)
    assert seconds(worker["stop_grace_period"]) > WorkerSettings().drain_time
    assert worker["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_only_flower_is_published_and_on_this_machine_alone() -> None:
    """Redis and Postgres stay inside; Flower's metrics ask for no password."""
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}

    assert list(ports) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in ports["flower"])


def test_redis_keeps_what_it_takes() -> None:
    """A log on disk, and refusal instead of eviction when memory is full."""
    command = " ".join(compose()["services"]["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--appendfsync everysec" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_mounted_settings_are_read() -> None:
    """embedq.toml is valid as it is, and with its examples uncommented."""
    file = DOCKER / "embedq.toml"

    assert Settings.from_environment({"EMBEDQ_CONFIG": str(file)}).worker == WorkerSettings()


def test_the_examples_in_the_settings_are_valid(tmp_path: Path) -> None:
    """Whoever removes a comment sign gets what the comment says."""
    lines = (DOCKER / "embedq.toml").read_text("utf-8").splitlines()
    examples = [line[2:] for line in lines if re.match(r"# (\[|\w+ = )", line)]
    (tmp_path / "embedq.toml").write_text("\n".join(examples))
    settings = Settings.from_environment({"EMBEDQ_CONFIG": str(tmp_path / "embedq.toml")})

    assert settings.catalogue.usable("text-embedding-3-small").max_concurrency == 8


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_in_the_image(script: str) -> None:
    """They are run by name, and the build context holds them."""
    assert (DOCKER / script).stat().st_mode & 0o111 == 0o111
    assert f"!docker/{script}\n" in (ROOT / ".dockerignore").read_text("utf-8")


def test_missing_passwords_are_made_once(tmp_path: Path) -> None:
    """Each is random and long, its URL holds it, and the second run keeps it."""
    assert make_secrets(tmp_path / "given", tmp_path).returncode == 0
    first = [(tmp_path / name).read_text() for name in GENERATED]
    assert make_secrets(tmp_path / "given", tmp_path).returncode == 0
    second = [(tmp_path / name).read_text() for name in GENERATED]

    assert first == second
    assert len(set(first)) == len(first)
    assert all(len(password) == 48 for password in first)
    assert (tmp_path / "redis/broker_url").read_text() == f"redis://:{first[1]}@redis:6379/0"
    assert not (tmp_path / "api/key").exists()


def test_given_secrets_are_taken(tmp_path: Path) -> None:
    """A file of docker/secrets wins over what was there, and nothing of it is printed."""
    make_secrets(tmp_path / "given", tmp_path / "secrets")
    (tmp_path / "given").mkdir()
    (tmp_path / "given/postgres_password.txt").write_text("chosen-one\n")
    (tmp_path / "given/api_key.txt").write_text("chosen-two\n")
    done = make_secrets(tmp_path / "given", tmp_path / "secrets")

    assert "chosen" not in done.stdout + done.stderr
    assert "embedq:chosen-one@" in (tmp_path / "secrets/postgres/database_url").read_text()
    assert (tmp_path / "secrets/api/key").read_text() == "chosen-two\n"


@pytest.mark.parametrize("password", ["", "with space", "a@b", "a\nb", "'; reboot"])
def test_a_password_that_would_break_a_url_is_refused(tmp_path: Path, password: str) -> None:
    """It says which file, and what may be in it; it does not quote the password."""
    (tmp_path / "redis_password.txt").write_text(password)
    done = make_secrets(tmp_path, tmp_path / "secrets")

    assert done.returncode == 1
    assert "docker/secrets/redis_password.txt: use one line of letters" in done.stderr
    assert not password or password not in done.stderr
    assert not (tmp_path / "secrets/redis/password").exists()


def test_commands_get_their_urls_from_the_secrets(tmp_path: Path) -> None:
    """Called as embedq, the script runs embedq with the URLs; a variable that is set stays."""
    make_secrets(tmp_path / "given", tmp_path)
    program = tmp_path / "embedq"
    program.write_text(
        '#!/bin/sh\necho "$EMBEDQ_BROKER_URL $EMBEDQ_DATABASE_URL ${EMBEDQ_API_KEY_FILE-none} $1"\n'
    )
    program.chmod(0o755)
    entry = tmp_path / "bin/embedq"
    entry.parent.mkdir()
    entry.symlink_to(DOCKER / "run-with-secrets")
    environment = {
        "PATH": "/usr/bin:/bin",
        "SECRETS_FOLDER": str(tmp_path),
        "PROGRAMS_FOLDER": str(tmp_path),
        "EMBEDQ_DATABASE_URL": "postgresql://mine",
    }
    said = subprocess.run([entry, "status"], env=environment, capture_output=True, text=True, check=True)

    broker = (tmp_path / "redis/broker_url").read_text()
    assert said.stdout.split() == [broker, "postgresql://mine", "none", "status"]
