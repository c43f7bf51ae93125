"""``embedq health``: ask the worker processes of this machine or container how they are."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException

import click

from embedq.errors import ConfigurationError
from embedq_worker.cli.session import reachable
from embedq_worker.errors import Unhealthy
from embedq_worker.settings import Settings


@click.command(epilog="Example: embedq health --live")
@click.option("--live", is_flag=True, help="Ask only whether it turns, whatever its servers do.")
@click.option("--processes", type=click.IntRange(1), default=1, help="Ask so many of one command. Default 1.")
@click.option("--timeout", type=click.FloatRange(0.1), default=3.0, help="Seconds for an answer. Default 3.")
def health(live: bool, processes: int, timeout: float) -> None:
    """Say whether the worker that runs with the same settings can work; exit with 0 or 1.

    It is asked at EMBEDQ_METRICS_PORT, which has to be set for both.
    """
    settings = Settings.from_environment()
    if settings.metrics_port is None:
        raise ConfigurationError("EMBEDQ_METRICS_PORT is not set: set it for the worker and for this command")
    host = reachable(settings.metrics_host)
    for port in range(settings.metrics_port, settings.metrics_port + processes):
        if reasons := _ask(host, port, "/livez" if live else "/readyz", timeout):
            raise Unhealthy(f"{host}:{port}", reasons)
    click.echo("live" if live else "ready")


def _ask(host: str, port: int, path: str, timeout: float) -> list[str]:
    """What is wrong."""
    connection = HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = json.loads(answer.read())["reasons"]
        return [str(reason) for reason in said]
    except TimeoutError:
        return [f"no answer within {timeout:g} s: the engine stands still; restart the worker"]
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        return [f"no answer of a worker ({type(error).__name__}); look whether it runs with this port"]
    finally:
        connection.close()
