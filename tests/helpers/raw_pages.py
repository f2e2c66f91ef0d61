"""Pages without a browser: what a client of any kind can ask of the server, and how it answers."""

import asyncio
import json
import re
import threading
from contextlib import contextmanager

from bokeh.protocol import Protocol
from bokeh.protocol.receiver import Receiver
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

PATIENCE = 60.0
"""Seconds; exceeded only if something is broken."""

LARGEST_BYTES = 64_000_000
"""More than a page has."""


class Client:
    """A client with an event loop of its own, as browser tests leave one running in the thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, scenario, timeout=PATIENCE):
        """Run a coroutine and return its result."""
        return asyncio.run_coroutine_threadsafe(scenario, self.loop).result(timeout)

    def get(self, address, **options):
        """Return the answer to a request, whatever it is; redirections are not followed."""
        return self.run(got(address, **options))

    def open(self, address, **options):
        """Return a page with its websocket, as ``opened`` does."""
        return self.run(opened(address, **options))

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


@contextmanager
def client():
    """Yield a client, and end it."""
    one = Client()
    try:
        yield one
    finally:
        one.close()


async def got(address, **options):
    """Return the answer to a request, whatever it is; redirections are not followed."""
    request = HTTPRequest(
        address, follow_redirects=False, request_timeout=PATIENCE, validate_cert=False, **options
    )
    return await AsyncHTTPClient(max_clients=200).fetch(request, raise_error=False)


def token_of(html):
    """Return the token in a page, which its websocket names."""
    return re.search(r'"token":"([^"]+)"', html)[1]


def cookie_of(answer):
    """Return the cookies that an answer sets, as a header."""
    return "; ".join(text.partition(";")[0] for text in answer.headers.get_list("Set-Cookie"))


async def connected(address, token, headers=None):
    """Return the websocket of a page.

    Raises:
        HTTPClientError: it was refused.
    """
    base, _, _ = address.partition("?")
    where = re.sub("^http", "ws", base) + "ws"
    request = HTTPRequest(where, headers=headers or {}, validate_cert=False)
    return await websocket_connect(
        request, subprotocols=["bokeh", token], max_message_size=LARGEST_BYTES
    )


def refusal(one, address, token, headers=None):
    """Return the status with which a websocket is refused, or the code with which it is closed."""

    async def trying():
        try:
            socket = await connected(address, token, headers)
        except HTTPClientError as error:
            return error.code
        message = await socket.read_message()
        return socket.close_code if message is None else 101

    return one.run(trying())


async def opened(address, headers=None, ws_headers=None):
    """Return a page, asked for and with its websocket."""
    answer = await got(address, headers=headers or {})
    assert answer.code == 200, answer.body
    html = answer.body.decode()
    socket = await connected(address, token_of(html), ws_headers or headers)
    page = RawPage(html, socket)
    assert (await page.read()).msgtype == "ACK"
    return page


class RawPage:
    """A page as its browser's scripts see it: messages of Bokeh's protocol.

    Attributes:
        html: what was sent for its address.
        socket: its websocket.
        ids: of its models, by their label or name.
    """

    def __init__(self, html, socket):
        self.html = html
        self.socket = socket
        self.ids = {}
        self._receiver = Receiver(Protocol())
        self._sent = 0

    async def read(self):
        """Return the next message; ``None`` when the socket is closed."""
        while True:
            fragment = await self.socket.read_message()
            if fragment is None:
                return None
            message = await self._receiver.consume(fragment)
            if message is not None:
                return message

    async def send(self, kind, content):
        """Send a message; returns its number."""
        self._sent += 1
        header = {"msgid": str(self._sent), "msgtype": kind}
        for part in (header, {}, content):
            await self.socket.write_message(json.dumps(part))
        return str(self._sent)

    async def answer(self, number):
        """Return the answer to a message; others are passed over."""
        while (message := await self.read()) is not None:
            if message.header.get("reqid") == number:
                return message
        return None

    async def load(self):
        """Take in the page, as a browser does, and say that it is ready; returns the page."""
        number = await self.send("PULL-DOC-REQ", {})
        document = (await self.answer(number)).content["doc"]
        for model in models(document):
            named = model.get("attributes", {})
            for key in (named.get("label"), named.get("name")):
                if isinstance(key, str) and key:
                    self.ids.setdefault(key, model["id"])
        await self.answer(await self.event("document_ready"))
        return self

    async def event(self, name, **values):
        """Send an event; returns its number."""
        entries = [[key, value] for key, value in values.items()]
        data = {"type": "event", "name": name, "values": {"type": "map", "entries": entries}}
        event = {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": data}
        return await self.send("PATCH-DOC", {"events": [event]})

    async def click(self, label):
        """Click a button; returns the number of the message."""
        return await self.event("button_click", model={"id": self.ids[label]})

    async def set(self, name, attribute, value):
        """Set an attribute of a model; returns the number of the message."""
        event = {
            "kind": "ModelChanged",
            "model": {"id": self.ids[name]},
            "attr": attribute,
            "new": value,
        }
        return await self.send("PATCH-DOC", {"events": [event]})

    def close(self):
        self.socket.close()


def models(value):
    """Yield all models in a document's JSON."""
    if isinstance(value, dict):
        if value.get("type") == "object" and "id" in value:
            yield value
        for each in value.values():
            yield from models(each)
    elif isinstance(value, list):
        for each in value:
            yield from models(each)
