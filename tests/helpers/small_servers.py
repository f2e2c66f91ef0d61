"""Servers in a thread of the tests: a page of one button behind the guards of the lab's."""

import asyncio
import threading
from contextlib import contextmanager

import panel as pn
from m2n2lab.widgets.server.addresses import Place
from m2n2lab.widgets.server.handlers import protected_server
from tornado.ioloop import IOLoop

from helpers.pages import free_port

PATIENCE = 60.0
"""Seconds; exceeded only if something is broken."""


def one_button():
    """Return a page with a button, which counts its clicks."""
    button = pn.widgets.Button(label="Click", name="0")
    button.on_click(lambda event: setattr(button, "name", str(event.new)))
    return button


@contextmanager
def served_here(page=one_button, door=None, host="127.0.0.1", **options):
    """Serve a page; yield its address, at a loopback host, and the server.

    Args:
        page: makes it.
        door: who may come in; or makes that, from a place.
        host: where to listen.
        options: of the place, and of ``protected_server``.
    """
    named = {key: options.pop(key) for key in ("prefix", "secure", "origins") if key in options}
    place = Place(host, free_port(), **named)
    door = door(place) if callable(door) else door
    ready, made = threading.Event(), []
    loop = IOLoop(make_current=False)

    def serve():
        asyncio.set_event_loop(loop.asyncio_loop)
        server = protected_server(page, place, door, loop=loop, **options)
        server.start()
        made.append(server)
        loop.add_callback(ready.set)
        loop.start()
        server.stop()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield place.addresses[0], made[0]
    finally:
        loop.add_callback(loop.stop)
        thread.join(PATIENCE)
