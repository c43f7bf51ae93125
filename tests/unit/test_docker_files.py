"""What is in docker/: the files agree with the code and with each other, and hold no secret."""

from __future__ import annotations

import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # PyYAML has no types

from embedq_worker.settings import Settings, WorkerSettings
from tests.support.programs import needs
from tests.support.variables import variables_read

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
OURS = ("migrate", "worker", "producer", "flower", "secrets")
CONFINED = (*OURS, "prometheus", "grafana")
SCRIPTS = ("make-certificates", "make-secrets", "run-with-secrets", "strip-packages")
REDIS_USERS = ("admin", "worker", "producer", "monitor")
GENERATED = [f"{name}/password" for name in ("postgres", "flower", "grafana", *REDIS_USERS)]

SECRET_LIKE = re.compile(
    r"sk-[A-Za-z0-9]{8}"
    r"|://[^\s:/@]*:[^\s%$@{]+@"  # a URL with a password; %s and $… stand for one
    r"|(?i:password|passwd|token|api_key)['\"]?[ \t]*[:=][ \t]*['\"]?[A-Za-z0-9]{6,}"
)


def compose(file: str = "compose.yaml") -> dict[str, Any]:
    """The parsed compose file."""
    parsed: dict[str, Any] = yaml.safe_load((DOCKER / file).read_text("utf-8"))
    return parsed


def files() -> list[Path]:
    """Every file of docker/ that belongs to the repository."""
    return [path for path in DOCKER.rglob("*") if path.is_file() and path.parent != DOCKER / "secrets"]


def make_secrets(given: Path, secrets: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script over two folders."""
    command = ["sh", *map(str, (DOCKER / "make-secrets", given, secrets, DOCKER / "redis/users.acl"))]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def make_certificates(folder: Path) -> str:
    """Run the script as its container does, as root with no right over read-only files; what it said."""
    confined = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    command = [*confined, "sh", str(DOCKER / "make-certificates"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    assert {line for line in taken.splitlines() if "docker" in line} == {
        f"!docker/{name}" for name in SCRIPTS
    }


@pytest.mark.parametrize("text", ["redis://:hunter2@redis", "POSTGRES_PASSWORD: hunter22", "sk-0123456789"])
def test_the_search_for_secrets_finds_some(text: str) -> None:
    """The expression above does see what it is meant to see."""
    assert SECRET_LIKE.search(text)


def test_no_environment_in_the_compose_file_holds_a_secret() -> None:
    """`docker inspect` shows the environment of a container: only names of files may be in it."""
    for service in compose()["services"].values():
        names = set(service.get("environment", {}))
        secret = {name for name in names if re.search("(PASSWORD|KEY|TOKEN|_URL)(?!.*_FILE$)", name)}
        assert secret <= {"EMBEDQ_API_BASE_URL"}


def test_a_service_is_confined_and_sees_its_own_secrets_only() -> None:
    """No capability, no writable root; Flower cannot read the database's password or the key."""
    services = compose()["services"]
    for name in CONFINED:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]

    def secrets(name: str) -> set[str]:
        return {volume.partition("-")[0] for volume in services[name]["volumes"] if "-secrets:" in volume}

    assert secrets("flower") == {"monitor", "flower"}
    assert secrets("worker") == {"worker", "postgres", "api"}
    assert secrets("producer") == {"producer"}
    assert secrets("migrate") == secrets("postgres") == {"postgres"}
    assert secrets("redis") == {"redis", "admin"}
    assert secrets("prometheus") == set()
    assert secrets("grafana") == {"grafana"}


def test_nothing_grows_without_bound() -> None:
    """Logs rotate, and a service that leaks does not take the machine's memory."""
    for name, service in compose()["services"].items():
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
        assert "mem_limit" in service or name in ("secrets", "migrate", "producer")


def test_workers_scale_and_drain() -> None:
    """Nothing fixed stands in the way of a second worker, and stopping leaves time to drain."""
    worker = compose()["services"]["worker"]

    assert not {"container_name", "ports", "hostname"} & set(worker)
    assert seconds(worker["stop_grace_period"]) > WorkerSettings().drain_time
    assert worker["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}


def test_only_pages_are_published_and_on_this_machine_alone() -> None:
    """Redis, Postgres and the workers' metrics stay inside; Prometheus asks for no password."""
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}

    assert set(ports) == {"flower", "prometheus", "grafana"}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)


def test_every_image_has_a_tag_and_can_be_pinned() -> None:
    """A variable takes the image with its digest."""
    images = {service["image"] for service in compose()["services"].values()} - {"embedq"}

    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z/]+:[\w.]+\}", image) for image in images)
    assert (DOCKER / "Dockerfile").read_text("utf-8").count("FROM ${PYTHON_IMAGE}") == 2


def test_redis_keeps_what_it_takes() -> None:
    """A log on disk, and refusal instead of eviction when memory is full."""
    command = " ".join(compose()["services"]["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--appendfsync everysec" in command
    assert "--maxmemory-policy noeviction" in command


def test_redis_replays_its_log_with_all_rights() -> None:
    """It replays transactions as the default user: what that one may not would be lost in a restart."""
    users = (DOCKER / "redis/users.acl").read_text("utf-8")

    assert "user default off ~* &* +@all\n" in users


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
    for name in REDIS_USERS:
        password = (tmp_path / name / "password").read_text()
        assert (tmp_path / name / "broker_url").read_text() == f"redis://{name}:{password}@redis:6379/0"
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


def test_redis_gets_hashes_and_no_password(tmp_path: Path) -> None:
    """A user a line, as Redis reads them, with the hash of each password."""
    make_secrets(tmp_path / "given", tmp_path)
    lines = (tmp_path / "redis/users.acl").read_text().splitlines()

    assert [line.split()[:2] for line in lines] == [
        ["user", name] for name in ("worker", "producer", "monitor", "admin", "health", "default")
    ]
    for name in REDIS_USERS:
        password = (tmp_path / name / "password").read_text()
        (line,) = [line for line in lines if line.startswith(f"user {name} ")]
        assert f" #{sha256(password.encode()).hexdigest()} " in line
        assert password not in line


@pytest.mark.parametrize("password", ["", "with space", "a@b", "a\nb", "'; reboot"])
def test_a_password_that_would_break_a_url_is_refused(tmp_path: Path, password: str) -> None:
    """It says which file, and what may be in it; it does not quote the password."""
    (tmp_path / "redis_worker_password.txt").write_text(password)
    done = make_secrets(tmp_path, tmp_path / "secrets")

    assert done.returncode == 1
    assert "docker/secrets/redis_worker_password.txt: use one line of letters" in done.stderr
    assert not password or password not in done.stderr
    assert not (tmp_path / "secrets/worker/password").exists()


def test_commands_get_their_urls_from_the_secrets(tmp_path: Path) -> None:
    """Called as embedq, the script runs embedq with the URLs; a variable that is set stays."""
    make_secrets(tmp_path / "given", tmp_path)
    (tmp_path / "broker").symlink_to("worker")
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

    broker = (tmp_path / "worker/broker_url").read_text()
    assert said.stdout.split() == [broker, "postgresql://mine", "none", "status"]


@pytest.mark.parametrize(("key", "shown"), [(None, "none"), ("", "none"), ("sk", "key")])
def test_a_key_is_named_where_there_is_one(tmp_path: Path, key: str | None, shown: str) -> None:
    """An empty one, as Kubernetes mounts of an empty value, is none: a worker would not start on it."""
    file = tmp_path / "api/key"
    file.parent.mkdir()
    if key is not None:
        file.write_text(key)
    program = tmp_path / "embedq"
    program.write_text('#!/bin/sh\necho "${EMBEDQ_API_KEY_FILE-none}"\n')
    program.chmod(0o755)
    entry = tmp_path / "bin/embedq"
    entry.parent.mkdir()
    entry.symlink_to(DOCKER / "run-with-secrets")
    folders = {"SECRETS_FOLDER": str(tmp_path), "PROGRAMS_FOLDER": str(tmp_path), "PATH": "/usr/bin:/bin"}
    said = subprocess.run([entry], env=folders, capture_output=True, text=True, check=True)

    assert said.stdout.strip().rpartition("/")[2] == shown


def test_with_tls_every_url_asks_for_a_verified_server(tmp_path: Path) -> None:
    """The certificate and the name, of Redis and of Postgres."""
    make_secrets(tmp_path / "given", tmp_path, TLS="1")

    for name in REDIS_USERS:
        url = (tmp_path / name / "broker_url").read_text()
        assert url.startswith("rediss://")
        assert "ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=/run/tls/ca/ca.crt" in url
    database = (tmp_path / "postgres/database_url").read_text()
    assert database.endswith("?sslmode=verify-full&sslrootcert=/run/tls/ca/ca.crt")


def test_with_tls_nothing_else_changes() -> None:
    """Redis keeps its options, which an override has to repeat; every client gets the authority, no key."""
    plain, encrypted = compose()["services"], compose("compose.tls.yaml")["services"]
    options = plain["redis"]["command"]

    assert encrypted["redis"]["command"][: len(options)] == options
    assert encrypted["redis"]["command"][len(options) :][:2] == ["--port", "0"]
    for client in ("worker", "producer", "flower", "migrate"):
        assert encrypted[client]["volumes"] == ["tls-ca:/run/tls/ca:ro"]
    keys = [name for name, service in encrypted.items() if "tls-authority:" in str(service.get("volumes"))]
    assert keys == ["certificates"]


def test_certificates_are_vouched_for_and_kept(tmp_path: Path) -> None:
    """Each is its server's, by the authority's word; the second run makes none."""
    needs("openssl")
    first = make_certificates(tmp_path)
    second = make_certificates(tmp_path)

    assert "a new certificate for redis" in first
    assert second == ""
    for server in ("redis", "postgres"):
        verify = [
            "openssl",
            "verify",
            "-CAfile",
            "ca/ca.crt",
            "-verify_hostname",
            server,
            f"{server}/server.crt",
        ]
        subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True)
    other = [*verify[:4], "-verify_hostname", "elsewhere", verify[-1]]
    assert subprocess.run(other, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_certificates_that_end_soon_are_made_anew(tmp_path: Path) -> None:
    """The authority is kept; one that ends itself takes its servers' certificates with it."""
    needs("openssl")
    make_certificates(tmp_path)
    authority = tmp_path / "authority/ca.crt"
    kept = authority.read_bytes()
    ending = tmp_path / "redis/server.crt"
    ending.unlink()
    ending.write_text("not good any more\n")
    ending.chmod(0o444)

    assert make_certificates(tmp_path) == "make-certificates: a new certificate for redis\n"
    assert authority.read_bytes() == kept

    authority.unlink()
    said = make_certificates(tmp_path)
    assert [line.rpartition(" ")[2] for line in said.splitlines()] == ["authority", "redis", "postgres"]
