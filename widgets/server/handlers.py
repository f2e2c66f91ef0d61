"""Handlers: Panel's own, with a door, limits and headers that keep browsers from being misled."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import signal
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import panel as pn
from bokeh.application.handlers.handler import Handler
from bokeh.document import Document
from bokeh.server.server import Server
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.ico_handler import IcoHandler
from bokeh.util.token import check_token_signature, get_session_id, get_token_payload
from panel.io.server import DocHandler, WSHandler
from panel.viewable import Viewable
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.routing import Rule
from tornado.web import OutputTransform, RequestHandler

from m2n2lab.utils.concurrency.allowance import Allowance
from m2n2lab.utils.errors import InputError

from ..page.notice import Notice
from ..runs.roles import ROLE, Role
from .access import Door
from .addresses import Foreign, Place
from .limits import (
    IDLE_SECONDS,
    MAX_BODY_BYTES,
    MAX_MESSAGE_BYTES,
    ORDERS_AT_ONCE,
    ORDERS_PER_SECOND,
    SOCKETS_AT_ONCE,
    SOCKETS_PER_SECOND,
    Turnstile,
)

log = logging.getLogger("m2n2lab")

OWN_ID = ("bokeh-session-id", "bokeh-token")
"""Arguments by which a request could choose its session."""

SLOWED = (
    f"This page gives more than {ORDERS_PER_SECOND:g} orders a second: they are followed one after "
    f"the other; wait a moment."
)
"""What a page shows that asks too much."""


SLOWED_SECONDS = 5.0
"""Time for which that is shown after the last order that waited."""


class PageHandler(DocHandler):
    """Makes a page, for a person who may come in, when it is its turn.

    Args (of the route, beside Panel's):
        door: who may come in; ``None`` for everybody.
        turnstile: makes pages one at a time.
        admits: returns whether a request may have a page, for those who have no door.
    """

    def __init__(self, application: BokehTornado, request: HTTPServerRequest, **given: Any) -> None:
        self._door: Door | None = given.pop("door")
        self._turnstile: Turnstile = given.pop("turnstile")
        self._admits: Callable[[HTTPServerRequest], bool] = given.pop("admits")
        super().__init__(application, request, **given)

    async def get(self, *args: Any, **named: Any) -> None:
        """Show the page, or a sentence that says why not."""
        request = self.request
        if (
            any(name in request.arguments for name in OWN_ID)
            or "Bokeh-Session-Id" in request.headers
        ):
            # Else a link could have two people share a session, of which one knows nothing.
            return self._say(403, "A page's session is chosen by the server; leave it out.")
        if request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
            return self._say(403, "A page is opened by a link or an address, not by another page.")
        if not self._admits(request):
            return self._say(403, "This address opens no page; use the one that was given.")
        linked = "token" in request.query_arguments and request.path.endswith("/")
        if self._door is not None and self.current_user and linked:
            return self._come_in(self._door, self.current_user)
        if not self.current_user:
            # Panel's own way to the form is no coroutine.
            form = self.get_login_url()  # type: ignore[no-untyped-call]
            self.redirect(f"{form}?{urlencode({'next': request.uri})}")
            return None
        try:
            async with self._turnstile.turn():
                page: Any = super().get(*args, **named)
                await page
        except InputError as error:
            self.set_header("Retry-After", "60")
            self._say(503, str(error))

    def _come_in(self, door: Door, role: Role) -> None:
        """Remember the browser, and lead it to the page without the token in its address."""
        door.remember(self, role)
        kept = [
            (name, value)
            for name, values in self.request.query_arguments.items()
            if name != "token"
            for value in values
        ]
        self.set_header("Cache-Control", "no-store")
        self.redirect("./" + (f"?{urlencode(kept)}" if kept else ""))

    def _say(self, status: int, sentence: str) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(sentence + "\n")


class SocketHandler(WSHandler):
    """The websocket of a page, for its own browser, with an allowance of orders.

    Args (of the route, beside Panel's):
        place: where the server is.
        turnstile: makes pages one at a time.
        arrivals: how many websockets may be opened, of all pages together.
    """

    def __init__(self, application: BokehTornado, request: HTTPServerRequest, **given: Any) -> None:
        self._place: Place | None = given.pop("place")
        self._turnstile: Turnstile = given.pop("turnstile")
        self._arrivals: Allowance = given.pop("arrivals")
        self._allowance = Allowance(ORDERS_PER_SECOND, ORDERS_AT_ONCE)
        self._slowed_until = 0.0  # when the page stops showing that it is slowed
        super().__init__(application, request, **given)

    async def prepare(self) -> None:
        """Refuse strangers, and let others in one after the other."""
        await super().prepare()  # type: ignore[no-untyped-call]
        if self.current_user is not None:
            await asyncio.sleep(self._arrivals.take())

    def check_origin(self, origin: str) -> bool:
        """Return whether a page of an origin may open this websocket."""
        place = self._place
        admitted = place is None or place.admits(origin, self.request.host)
        if not admitted:
            log.warning(
                "A page of %s may not open a websocket here; --origin permits it.",
                repr(origin)[:99],
            )
        return admitted

    def open(self, *args: Any, **named: Any) -> Any:
        """Open the socket, if its token was issued by this server for one page."""
        if self.selected_subprotocol != "bokeh" or not self._issued():
            self.close(1008, "The page's token is missing, wrong or too old; load the page again.")
            return None
        return super().open(*args, **named)  # type: ignore[no-untyped-call]

    def _issued(self) -> bool:
        """Return whether the token is this server's and still holds."""
        token: Any = self._token
        application: Any = self.application
        try:
            own = check_token_signature(token, secret_key=application.secret_key, signed=True)
            return bool(own) and bool(get_token_payload(token)["session_expiry"] > time.time())
        except Exception:  # cut short, or made by hand
            return False

    async def _async_open(self, token: str) -> None:
        known = {session.id for session in self.application_context.sessions}
        try:
            if get_session_id(token) in known:
                await super()._async_open(token)
            else:  # given up meanwhile, so it is made again
                async with self._turnstile.turn():
                    await super()._async_open(token)
        except InputError as error:
            self.close(1013, str(error)[:120])

    async def on_message(self, fragment: str | bytes) -> None:
        """Follow an order; those beyond the allowance wait, and so does who sends them."""
        seconds, now = self._allowance.take(), time.monotonic()
        if seconds:
            if not self._slowed_until:
                log.warning("A page gives too many orders: they wait for their turn.")
                await self._notice(SLOWED)
            self._slowed_until = now + SLOWED_SECONDS
        elif 0.0 < self._slowed_until < now:
            self._slowed_until = 0.0
            await self._notice("")
        await asyncio.sleep(seconds)  # even 0 lets other pages have their turn
        await super().on_message(fragment)

    async def _notice(self, sentence: str) -> None:
        """Show a sentence on the page."""
        if self.connection is None:
            return

        session = self.connection.session
        trigger = session.document.callbacks.trigger_event
        shown: Any = session.with_document_locked(trigger, Notice(sentence))
        await shown


class Refusal(RequestHandler):
    """Refuses every request."""

    def initialize(self, status: int, sentence: str) -> None:
        """Set what to answer."""
        self._status, self._sentence = status, sentence

    def prepare(self) -> None:
        """Refuse, whatever the method."""
        self.set_status(self._status)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(self._sentence + "\n")

    def check_xsrf_cookie(self) -> None:
        """Nothing to protect."""


class Roles(Handler):
    """Adds the role of a request to the signed token of its page."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    def modify_document(self, doc: Document) -> None:
        """Leave the page as it is."""

    def process_request(self, request: HTTPServerRequest) -> dict[str, Any]:
        """Return what is added; without a role there is no page."""
        role = self._door.role(request)
        return {} if role is None else {ROLE: role.value}


def security_headers(ancestors: str) -> type[OutputTransform]:
    """Return what adds the headers that tell browsers what a page may do.

    Args:
        ancestors: pages that may show it in a frame, as in ``frame-ancestors``; empty for all.
    """
    policy = [
        "default-src 'self' data: blob:",
        # Bokeh and Panel make functions from texts, and set styles, on their pages.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        *([f"frame-ancestors {ancestors}"] if ancestors else []),
    ]
    added = {
        "Content-Security-Policy": "; ".join(policy),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }

    class SecurityHeaders(OutputTransform):
        """Adds the headers to every answer."""

        def transform_first_chunk(
            self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
        ) -> tuple[int, HTTPHeaders, bytes]:
            headers.update(added)
            return status_code, headers, chunk

    return SecurityHeaders


def protected_server(
    page: Callable[[], Viewable],
    place: Place,
    door: Door | None = None,
    *,
    ancestors: str = "'self'",
    admits: Callable[[HTTPServerRequest], bool] = lambda request: True,
    anywhere: bool = False,
    **options: Any,
) -> Server:
    """Return a server of one page that asks who comes and keeps its limits; it is not started.

    Args:
        page: makes a page.
        place: where it listens.
        door: who may come in; ``None`` for everybody.
        ancestors: pages that may show this one in a frame, as in ``frame-ancestors``.
        admits: returns whether a request may have a page, beside the door.
        anywhere: answer by any name, as ``admits`` asks for a secret.
        options: further ones of ``panel.serve``.
    """
    interrupts = signal.getsignal(signal.SIGINT)
    server: Server = pn.serve(
        {"/": page},
        address=place.host or None,
        port=place.port,
        prefix=place.prefix,
        show=False,
        start=False,
        title="m2n2lab",
        verbose=False,
        location=False,  # no page uses Panel's, which cannot read IPv6
        sign_sessions=True,
        secret_key=secrets.token_bytes(32),
        # Else the token on a page would repeat them, and scripts could read it.
        include_cookies=[],
        exclude_headers=["Cookie", "Authorization"],
        websocket_max_message_size=MAX_MESSAGE_BYTES,
        http_server_kwargs={
            "max_body_size": MAX_BODY_BYTES,
            "idle_connection_timeout": IDLE_SECONDS,
        },
        **({} if door is None else {"auth_provider": door}),
        **options,
    )
    if interrupts is signal.SIG_IGN:  # Panel has set its own: a job in the background ignores them
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    application = server._tornado
    (context,) = application.applications.values()
    prefix = re.escape(application.prefix)
    turnstile = Turnstile(lambda: len(server.get_sessions()))
    arrivals = Allowance(SOCKETS_PER_SECOND, SOCKETS_AT_ONCE)
    route = {
        "application_context": context,
        "bokeh_websocket_path": f"{application.prefix}/ws",
    }
    named = None if anywhere else place
    gone = {"status": 404, "sentence": "There is nothing at this address."}
    application.add_handlers(
        ".*",
        [
            (
                f"{prefix}/?",
                PageHandler,
                {**route, "door": door, "turnstile": turnstile, "admits": admits},
            ),
            (
                f"{prefix}/ws",
                SocketHandler,
                {**route, "place": named, "turnstile": turnstile, "arrivals": arrivals},
            ),
            (f"{prefix}/favicon.ico", IcoHandler, {"app": application}),  # Bokeh's has no prefix
            # Pages of other sites could load the one; the other imports any module by its name.
            (f"{prefix}/autoload.js", Refusal, gone),
            (f"{prefix}/components/.*", Refusal, gone),
            (".*%00.*", Refusal, gone),  # no name of a file, at which the system would stumble
        ],
    )
    if named is not None:
        sentence = (
            "This server does not answer to that name; if it is its own, start it with --origin."
        )
        foreign = Rule(Foreign(named), Refusal, {"status": 403, "sentence": sentence})
        application.default_router.rules.insert(0, foreign)
    application.add_transform(security_headers(ancestors))
    if door is not None:
        context.application.add(Roles(door))
    return server
