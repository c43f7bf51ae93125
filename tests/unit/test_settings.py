"""Settings: variables, the file, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedq.errors import ConfigurationError
from embedq_worker.logs.form import PROCESS_NUMBER
from embedq_worker.settings import Secret, Settings, WorkerSettings

SECRET = "sk-not-to-be-seen"


def write(folder: Path, text: str) -> dict[str, str]:
    """An environment that names a file with ``text``."""
    file = folder / "embedq.toml"
    file.write_text(text, "utf-8")
    return {"EMBEDQ_CONFIG": str(file)}


def test_defaults_need_no_environment() -> None:
    """Without variables there are the documented defaults and no key."""
    settings = Settings.from_environment({})

    assert settings.broker_url == "redis://localhost:6379/0"
    assert settings.database_url == "postgresql://localhost/postgres"
    assert settings.api_base_url == "https://api.aimlapi.com/v1"
    assert (settings.api_key, settings.key_prefix, settings.worker) == (None, "", WorkerSettings())
    assert repr(settings) == repr(Settings())


def test_variables_are_read() -> None:
    """Each variable reaches its field; an empty one counts as unset."""
    settings = Settings.from_environment(
        {
            "EMBEDQ_BROKER_URL": "rediss://broker:1/2",
            "EMBEDQ_DATABASE_URL": "postgresql:///db?host=/tmp",
            "EMBEDQ_API_BASE_URL": "http://127.0.0.1:8080/v1/",
            "EMBEDQ_API_KEY": SECRET,
            "EMBEDQ_API_KEY_FILE": "",
            "EMBEDQ_KEY_PREFIX": "team-",
        }
    )

    assert settings.broker_url == "rediss://broker:1/2?ssl_cert_reqs=required"
    assert settings.database_url == "postgresql:///db?host=/tmp"
    assert settings.api_base_url == "http://127.0.0.1:8080/v1"
    assert settings.api_key == Secret(SECRET)
    assert settings.key_prefix == "team-"


def test_nothing_secret_is_shown() -> None:
    """Neither the key nor a password of a URL is in the repr."""
    settings = Settings(
        api_key=Secret(SECRET),
        broker_url=f"redis://:{SECRET}@broker/0",
        database_url=f"postgresql://me:{SECRET}@db/x?password={SECRET}&a=b",
    )

    assert SECRET not in repr(settings) + str(settings) + repr(settings.api_key) + f"{settings.api_key}"
    assert "broker" in repr(settings)


def test_the_key_comes_from_a_file(tmp_path: Path) -> None:
    """The file's content is the key, without the line break at its end."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    settings = Settings.from_environment({"EMBEDQ_API_KEY_FILE": str(file)})

    assert settings.api_key is not None
    assert settings.api_key.reveal() == SECRET


def test_the_worker_table_is_read(tmp_path: Path) -> None:
    """Each known key of [worker] is taken, whole numbers for seconds too."""
    worker = Settings.from_environment(
        write(tmp_path, "[worker]\nin_hand = 8\nlease = 5\nbatch_wait = 0")
    ).worker

    assert (worker.in_hand, worker.lease, worker.batch_wait) == (8, 5.0, 0.0)
    assert worker.drain_time == WorkerSettings().drain_time


def test_the_models_table_is_laid_over_the_catalogue(tmp_path: Path) -> None:
    """A model's server, key file (beside the settings) and limits come from the file."""
    (tmp_path / "tei.key").write_text(SECRET)
    environ = write(
        tmp_path,
        '[models."BAAI/bge-base-en-v1.5"]\nbase_url = "http://tei:8080/v1/"\napi_key_file = "tei.key"\n'
        'max_concurrency = 2\n[models."local"]\nfamily = "plain"\ndimensions = 256\nmax_inputs = 512\n',
    )
    catalogue = Settings.from_environment(environ).catalogue
    model = catalogue.usable("BAAI/bge-base-en-v1.5")

    assert (model.base_url, model.api_key, model.max_concurrency) == ("http://tei:8080/v1", Secret(SECRET), 2)
    assert catalogue.get("local").max_inputs == 512
    assert SECRET not in repr(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[worker]\nin_hnd = 1", r"\[worker\]: unknown key 'in_hnd'; did you mean 'in_hand'"),
        ("[wrker]\n", "unknown key 'wrker'; did you mean 'worker'"),
        ("[worker]\nin_hand = 0", r"\[worker\]: in_hand: Expected `int` >= 1"),
        ("[worker]\nin_hand = true", r"\[worker\]: in_hand: Expected `int`, got `bool`"),
        ("[worker]\nlease = nan", r"\[worker\]: lease: expected a number"),
        ("[worker]\nlease = 0.1", r"\[worker\]: lease: Expected `float` >= 1"),
        ("worker = 3", "worker must be a table"),
        ("[models]\nx = 3", "x must be a table"),
        ("[models.x]\ndimensions = 3\napi_key = 'y'", "use api_key_file"),
        ("[models.x]\ndimensions = 3\napi_key_file = 'nowhere'", "needs a base_url of its own"),
        (
            "[models.x]\nbase_url = 'http://h'\ndimensions = 3\napi_key_file = 'nowhere'",
            "nowhere cannot be read",
        ),
        (
            "[models.x]\nbase_url = 'http://h'\ndimensions = 3\napi_key_file = 3",
            "expected the name of a file",
        ),
        ("[models.x]\nbase_url = 3\ndimensions = 3", "base_url: expected a string"),
        ("[models.x]\nbase_url = 'ftp://h'\ndimensions = 3", "base_url: expected http://"),
        ("[models.x]\nbas_url = 'x'\ndimensions = 3", "did you mean 'base_url'"),
        ("[models.voyage-2]\ntoken_per_minute = 3", "did you mean 'tokens_per_minute'"),
        ("[models.voyage-2]\ntokens_per_minute = 0", "tokens_per_minute: Expected `int` >= 1"),
        ("[models.voyage-2]\nrequests_per_minute = 1.5", "requests_per_minute: Expected `int \\| null`"),
        ("[models.voyage-2]\nconcurrency = 'fix'", "concurrency: Invalid enum value 'fix'"),
        ("[worker", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_key(tmp_path: Path, text: str, message: str) -> None:
    """Every mistake in the file is named with the file and the key."""
    environ = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings.from_environment(environ)

    assert "embedq.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"EMBEDQ_API_KEY": "a", "EMBEDQ_API_KEY_FILE": "b"}, "both set"),
        ({"EMBEDQ_API_KEY": "two words"}, "EMBEDQ_API_KEY: the key is empty"),
        ({"EMBEDQ_API_KEY": "line\r\nbreak: x"}, "EMBEDQ_API_KEY: the key is empty"),
        ({"EMBEDQ_API_KEY": "\N{SNOWMAN}"}, "EMBEDQ_API_KEY: the key is empty"),
        ({"EMBEDQ_API_KEY_FILE": "/nowhere/key"}, "EMBEDQ_API_KEY_FILE: /nowhere/key cannot be read"),
        ({"EMBEDQ_CONFIG": "/nowhere/embedq.toml"}, "EMBEDQ_CONFIG: /nowhere/embedq.toml cannot be read"),
        ({"EMBEDQ_BROKER_URL": "amqp://x"}, "EMBEDQ_BROKER_URL: expected a URL that starts with redis://"),
        ({"EMBEDQ_BROKER_URL": "redis://:two words/two@h:6379/0"}, "the broker URL cannot be read"),
        ({"EMBEDQ_METRICS_PORT": "http"}, "EMBEDQ_METRICS_PORT: expected a TCP port"),
        ({"EMBEDQ_METRICS_PORT": "0"}, "EMBEDQ_METRICS_PORT: expected a TCP port"),
        ({"EMBEDQ_METRICS_PORT": "65535", PROCESS_NUMBER: "1"}, "EMBEDQ_METRICS_PORT: expected a TCP port"),
        ({"EMBEDQ_DATABASE_URL": "db"}, "EMBEDQ_DATABASE_URL: expected"),
        ({"EMBEDQ_API_BASE_URL": "api.aimlapi.com"}, "EMBEDQ_API_BASE_URL: expected http://"),
        ({"EMBEDQ_API_BASE_URL": "https://"}, "EMBEDQ_API_BASE_URL: expected http://"),
        ({"EMBEDQ_API_BASE_URL": "http://h:99999/v1"}, "EMBEDQ_API_BASE_URL: expected http://"),
        ({"EMBEDQ_API_BASE_URL": "http://[::1/v1"}, "EMBEDQ_API_BASE_URL: expected http://"),
        ({"EMBEDQ_API_BASE_URL": "http://a b/v1"}, "EMBEDQ_API_BASE_URL: expected http://"),
        ({"EMBEDQ_API_BASE_URL": "https://u:p@h/v1"}, "EMBEDQ_API_BASE_URL: no user"),
        ({"EMBEDQ_API_BASE_URL": "https://h/v1?key=p"}, "EMBEDQ_API_BASE_URL: no user"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(environ: dict[str, str], message: str) -> None:
    """Every wrong variable is named, and its value is not quoted where it may be a secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Settings.from_environment(environ)

    assert "two words" not in str(caught.value)


def test_each_process_of_a_supervisor_has_a_port() -> None:
    """The one after that of the process before it; without a port there is none for anybody."""
    environ = {"EMBEDQ_METRICS_PORT": "9100"}
    ports = [Settings.from_environment(environ | {PROCESS_NUMBER: number}).metrics_port for number in "012"]
    assert ports == [9100, 9101, 9102]
    assert Settings.from_environment(environ).metrics_port == 9100
    assert Settings.from_environment({PROCESS_NUMBER: "1"}).metrics_port is None


def test_an_empty_key_file_is_refused(tmp_path: Path) -> None:
    """A key file without a key is an error, not a missing key."""
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ConfigurationError, match="the key is empty"):
        Settings.from_environment({"EMBEDQ_API_KEY_FILE": str(tmp_path / "key")})


def test_a_key_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused without being quoted."""
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not text"):
        Settings.from_environment({"EMBEDQ_API_KEY_FILE": str(tmp_path / "key")})


def test_every_setting_is_documented() -> None:
    """Each key of [worker] says its default and what too low and too high do."""
    source = Path(__file__).parents[2] / "worker" / "embedq_worker" / "worker_settings.py"
    text = source.read_text("utf-8")
    for key in WorkerSettings.__struct_fields__:
        documented = text.split(f"    {key}: ", 1)[1].split('"""')[1]
        assert "Default" in documented, key
        assert "oo low" in documented, key
        assert "oo high" in documented, key


def test_keys_from_files_follow_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default key and a model's own are the ones that are in their files now."""
    monkeypatch.setattr("embedq_worker.secret.CHECK_SECONDS", 0.0)
    (tmp_path / "default.key").write_text("one")
    (tmp_path / "own.key").write_text("two")
    environ = write(tmp_path, "[models.x]\nbase_url = 'http://h'\ndimensions = 3\napi_key_file = 'own.key'\n")
    settings = Settings.from_environment(environ | {"EMBEDQ_API_KEY_FILE": str(tmp_path / "default.key")})
    (tmp_path / "default.key").write_text("three")
    (tmp_path / "own.key").write_text("four!")
    keys = (settings.api_key, settings.catalogue.get("x").api_key)

    assert [key and key.reveal() for key in keys] == ["three", "four!"]
