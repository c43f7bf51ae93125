"""``embedq flower``: Flower with our options, behind a password."""

from __future__ import annotations

import logging
from http.client import HTTPConnection, HTTPException

import click

from embedq_worker.cli.session import reachable
from embedq_worker.errors import WorkerError
from embedq_worker.flower.access import Access
from embedq_worker.flower.server import Options, serve
from embedq_worker.logs.form import read_form
from embedq_worker.logs.setup import set_up_logs
from embedq_worker.settings import Settings


@click.command(
    epilog="Example: EMBEDQ_FLOWER_PASSWORD_FILE=/run/secrets/flower embedq flower --address 0.0.0.0"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5555, help="Default 5555; 0 takes any that is free."
)
@click.option(
    "--address", default="127.0.0.1", help="Default 127.0.0.1. Any other than loopback needs a password."
)
@click.option("--read-write", is_flag=True, help="Let people revoke jobs and stop workers; needs a password.")
@click.option(
    "--check", is_flag=True, help="Ask the Flower that runs here whether it answers; exit with 0 or 1."
)
def flower(port: int, address: str, read_write: bool, check: bool) -> None:
    """Show jobs, queues, models and workers in a browser, until SIGTERM or Ctrl-C.

    The password is in EMBEDQ_FLOWER_PASSWORD, or in the file that EMBEDQ_FLOWER_PASSWORD_FILE names; the user
    is "embedq", unless EMBEDQ_FLOWER_USER says otherwise. Every page, /metrics and /healthcheck ask for them.
    """
    access = Access.from_environment()
    if check:
        _check(access, reachable(address), port)
        return
    access.check(address, is_read_only=not read_write)
    set_up_logs(logging.WARNING, form=read_form())

    def listening(actual: int) -> None:
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"Flower answers on http://{shown}:{actual}")

    serve(Settings.from_environment(), Options(address, port, access, not read_write), listening)


def _check(access: Access, host: str, port: int) -> None:
    connection = HTTPConnection(host, port, timeout=3)
    try:
        connection.request("GET", "/healthcheck", headers=access.header)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        raise WorkerError(
            f"no answer of a Flower at {host}:{port} ({type(error).__name__}); look whether it runs there"
        ) from None
    finally:
        connection.close()
    if status != 200:
        advice = "is its password another one?" if status == 401 else "look at its log"
        raise WorkerError(f"Flower at {host}:{port} answers with status {status}; {advice}")
    click.echo("ready")
