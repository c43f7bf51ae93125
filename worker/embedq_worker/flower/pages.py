"""The pages that differ from Flower's: queues, their lengths for scripts, and what a stranger gets."""

from __future__ import annotations

from flower.api import BaseApiHandler
from flower.views import BaseHandler
from tornado.web import HTTPError, RequestHandler, authenticated

from embedq.errors import EmbedqError
from embedq_worker.flower.overview import queue_lengths, read_overview


class QueuesPage(BaseHandler):
    """In the place of Flower's page of the broker, which lists what workers consume: nothing without one."""

    @authenticated
    async def get(self) -> None:
        """Show how everything stands."""
        overview, error = None, None
        try:
            overview = await self.application.in_thread(read_overview)
        except EmbedqError as raised:
            error = str(raised)
            self.set_status(503)
        self.render("queues.html", broker_url=self.application.broker_uri, overview=overview, error=error)


class QueueLengths(BaseApiHandler):
    """In the place of Flower's, which counts what workers consume."""

    @authenticated
    async def get(self) -> None:
        """Every queue and its messages, in Flower's form."""
        try:
            lengths = await self.application.in_thread(queue_lengths)
        except EmbedqError as error:
            raise HTTPError(503, str(error)) from None
        self.write({"active_queues": [{"name": name, "messages": count} for name, count in lengths.items()]})


class Stranger(RequestHandler):
    """Whoever is not let in: the same answer for every path and method."""

    def initialize(self, status: int, message: str) -> None:
        """What to answer."""
        self._status, self._message = status, message

    def check_xsrf_cookie(self) -> None:
        """Refused anyway."""

    def prepare(self) -> None:
        """Answer before anything else is looked at."""
        self.set_status(self._status)
        if self._status == 401:
            self.set_header("WWW-Authenticate", 'Basic realm="flower"')
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(self._message + "\n")
