"""A real Prometheus with the rules of the compose stack, which scrapes workers of this machine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml  # type: ignore[import-untyped] # PyYAML has no types

from embedq_worker.embedded.process import free_port
from tests.alerts.rules import ROOT, RULES

_CONFIGURATION = ROOT / "docker/prometheus/prometheus.yaml"
_START_SECONDS = 20.0


@dataclass(frozen=True)
class Alert:
    """One that is pending or fires."""

    name: str
    labels: Mapping[str, str]
    state: str
    annotations: Mapping[str, str]


class Prometheus:
    """Scrapes ``ports`` of 127.0.0.1 for the length of a ``with`` block.

    All but the targets and the intervals, ``every`` seconds, is as in the compose stack.
    """

    def __init__(self, program: str, folder: Path, ports: Sequence[int], *, every: int) -> None:
        self._folder = folder
        self._port = free_port()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False)
        self._log = folder / "prometheus.log"
        configuration = folder / "prometheus.yaml"
        configuration.write_text(yaml.safe_dump(_configured(ports, every)))
        self._command = [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise AssertionError(f"Prometheus did not start: {self._log.read_text()}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def alerts(self) -> list[Alert]:
        """Those that are pending or fire."""
        return [
            Alert(found["labels"]["alertname"], found["labels"], found["state"], found["annotations"])
            for found in self._ask("alerts")["alerts"]
        ]

    def value(self, query: str) -> float | None:
        """The one value of a query; None where it has no answer."""
        found = self.rows(query)
        return float(found[0]["value"][1]) if found else None

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The answer of an instant query."""
        rows: list[dict[str, Any]] = self._ask("query", query=query)["result"]
        return rows

    def _ask(self, what: str, **parameters: str) -> Any:
        answer = self._client.get(f"/api/v1/{what}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def _end(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(20)


def _configured(ports: Sequence[int], every: int) -> dict[str, Any]:
    """The configuration of the compose stack, with other targets and intervals."""
    configuration: dict[str, Any] = yaml.safe_load(_CONFIGURATION.read_text("utf-8"))
    configuration["global"] |= {
        "scrape_interval": f"{every}s",
        "scrape_timeout": f"{every}s",
        "evaluation_interval": f"{every}s",
    }
    configuration["rule_files"] = [str(RULES)]
    (job,) = configuration["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    return configuration
