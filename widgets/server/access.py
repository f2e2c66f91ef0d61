"""Access: who may open pages, by a token in the link, a password, or the cookie that follows."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.cookies import Morsel
from typing import Any
from urllib.parse import urlencode, urlsplit

from bokeh.server.auth_provider import AuthProvider
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler, create_signed_value, decode_signed_value

from m2n2lab.utils.errors import InputError

from ..html.assets import asset
from ..runs.roles import Role

TOKEN_VARIABLE, PASSWORD_VARIABLE = "M2N2LAB_TOKEN", "M2N2LAB_PASSWORD"
"""Environment variables: a token that stays the same after a restart, and the password."""

MIN_SECRET_CHARACTERS = 8
"""Least length of a password or of a token of one's own."""

COOKIE_DAYS = 30
"""Days for which a browser is known after it has come in."""

REFUSED_SECONDS = 1.0
"""Time until a wrong password is answered."""

MAX_WAITING = 50
"""Passwords that wait to be checked at once."""


class Password:
    """A password, of which only a salted hash is kept.

    Args:
        text: the password.

    Raises:
        InputError: it is too short.
    """

    def __init__(self, text: str) -> None:
        check_secret("password", text)
        self._salt = secrets.token_bytes(16)
        self._hash = self._hashed(text)

    def _hashed(self, text: str) -> bytes:
        return hashlib.scrypt(
            text.encode(errors="surrogatepass"), salt=self._salt, n=2**14, r=8, p=1
        )

    def matches(self, text: str) -> bool:
        """Return whether a text is the password; takes some 50 ms."""
        return hmac.compare_digest(self._hash, self._hashed(text))


def check_secret(name: str, text: str) -> None:
    """Check a secret that a person has chosen.

    Raises:
        InputError: it is too short.
    """
    if len(text) < MIN_SECRET_CHARACTERS:
        raise InputError(
            f"The {name} must have at least {MIN_SECRET_CHARACTERS} characters, got {len(text)}; "
            f"choose a longer one."
        )


class Door(AuthProvider):
    """Lets in who has a link with a token, the password, or the cookie that either has set.

    Args:
        cookie: name of the cookie; cookies are shared by all ports of a host.
        path: where the cookie is sent.
        password: lets a teacher in; by default a token does.
        token: of the teacher's link; by default a new one, which ends with this server.
        viewers: whether there is a link to watch only.

    Attributes:
        tokens: by role; that of the teacher only where there is no password.
    """

    def __init__(
        self,
        cookie: str,
        path: str = "/",
        password: Password | None = None,
        token: str | None = None,
        viewers: bool = False,
    ) -> None:
        if token:
            check_secret(f"token in {TOKEN_VARIABLE}", token)
        secret = token or secrets.token_urlsafe(24)
        self.tokens = {Role.VIEWER: _derived(secret, "viewer")} if viewers else {}
        if password is None:
            self.tokens[Role.TEACHER] = secret
        self._cookie, self._path, self._password = cookie, path, password
        self._cookie_secret = _derived(secret, "cookies")
        self._checker = ThreadPoolExecutor(1, "m2n2lab passwords")
        self._waiting = 0
        super().__init__()

    def link(self, address: str, role: Role) -> str:
        """Return the address of the page with the token of a role, if it has one."""
        token = self.tokens.get(role)
        return address if token is None else f"{address}?{urlencode({'token': token})}"

    def role(self, request: HTTPServerRequest) -> Role | None:
        """Return the role that a request proves: by a token, or else by its cookie."""
        given = self._given_token(request)
        return self._cookie_role(request) if given is None else self._token_role(given)

    def _given_token(self, request: HTTPServerRequest) -> str | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() in ("token", "bearer"):
            return value.strip()
        values = request.query_arguments.get("token")
        return values[-1].decode(errors="replace") if values else None

    def _token_role(self, given: str) -> Role | None:
        return next(
            (role for role, token in self.tokens.items() if _same(given, token)),
            None,
        )

    def _cookie_role(self, request: HTTPServerRequest) -> Role | None:
        morsel: Morsel[str] | None = request.cookies.get(self._cookie)
        if morsel is None:
            return None
        value = decode_signed_value(
            self._cookie_secret, self._cookie, morsel.value, max_age_days=COOKIE_DAYS
        )
        return None if value is None else Role(value.decode())

    def remember(self, handler: RequestHandler, role: Role) -> None:
        """Set the cookie by which the browser of a request is known from now on."""
        handler.set_cookie(
            self._cookie,
            create_signed_value(self._cookie_secret, self._cookie, role.value),
            path=self._path,
            expires_days=COOKIE_DAYS,
            httponly=True,
            samesite="Lax",  # a link in a mail or a course's page is followed
            secure=handler.request.protocol == "https",
        )

    async def check(self, text: str) -> Role | None:
        """Return the role that a password or a token, typed by a person, proves.

        Raises:
            InputError: too many wait to be checked.
        """
        role = self._token_role(text)
        if role is not None or self._password is None:
            await asyncio.sleep(0 if role else REFUSED_SECONDS)
            return role
        if self._waiting >= MAX_WAITING:
            raise InputError("Too many passwords are being tried; wait a minute.")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            # In a thread: pages must not wait for it.
            if await loop.run_in_executor(self._checker, self._password.matches, text):
                return Role.TEACHER
            await asyncio.sleep(REFUSED_SECONDS)
            return None
        finally:
            self._waiting -= 1

    # -- what Bokeh asks -------------------------------------------------------------------------

    @property
    def get_user(self) -> Callable[[Any], Any]:
        """A function from a handler to the role of its request."""
        return lambda handler: self.role(handler.request)

    @property
    def get_user_async(self) -> None:
        """Nothing: ``get_user`` answers at once."""

    @property
    def get_login_url(self) -> None:
        """Nothing: ``login_url`` says it."""

    @property
    def login_url(self) -> str:
        """Where a person without a link is sent."""
        return "/login"

    @property
    def login_handler(self) -> type[RequestHandler]:
        """The page that asks for a password or a token."""
        door = self

        class Login(_Login):
            def initialize(self) -> None:
                self.door = door

        return Login

    @property
    def logout_handler(self) -> None:
        """Nothing: closing the browser is enough, or a new server."""

    @property
    def logout_url(self) -> None:
        """Nothing, likewise."""


class _Login(RequestHandler):
    """The page that asks for a password or a token."""

    door: Door

    def get(self) -> None:
        """Show the form."""
        self._show("")

    async def post(self) -> None:
        """Check what was typed; then show the page, with the settings of the link."""
        try:
            role = await self.door.check(self.get_body_argument("secret", "", strip=False))
        except InputError as error:
            self.set_status(429)
            self._show(str(error))
            return
        if role is None:
            self.set_status(403)
            self._show("That is not it; try again.")
            return
        self.door.remember(self, role)
        # Only the query of what was asked for: the rest could lead elsewhere.
        query = urlsplit(self.get_query_argument("next", "")).query
        self.redirect("./" + (f"?{query}" if query else ""), status=303)

    def _show(self, message: str) -> None:
        self.set_header("Cache-Control", "no-store")
        asked = "token of the link" if Role.TEACHER in self.door.tokens else "password"
        page = asset("server/login.html")
        self.finish(page.replace("{asked}", asked).replace("{message}", message))


def given_password(prompt: Callable[[], str]) -> Password:
    """Return the password of the environment, or else one that a person types.

    The variable is removed, so that workers do not inherit it.

    Args:
        prompt: asks for it.

    Raises:
        InputError: it is too short.
    """
    return Password(os.environ.pop(PASSWORD_VARIABLE, None) or prompt())


def _derived(secret: str, what: str) -> str:
    """Return another secret, from which the first cannot be found."""
    return hmac.new(secret.encode(), what.encode(), hashlib.sha256).hexdigest()[:32]


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())
