"""Addresses: where the server listens, the links to it, and the hosts that it answers to."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from bokeh.server.util import check_allowlist, match_host
from tornado.httputil import HTTPServerRequest, split_host_and_port
from tornado.routing import Matcher

from m2n2lab.utils.errors import InputError

DOCUMENTATION = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that nobody has (RFC 5737, RFC 3849): nothing is sent to them."""

BOTH = [family for family, _ in DOCUMENTATION]
"""IPv4 and IPv6."""

SIOCGIFADDR = 0x8915
"""Linux's request for the address of a network interface."""


def is_loopback(host: str) -> bool:
    """Return whether only this computer can reach an address to listen on."""
    return host == "localhost" or (_is_ip(host) and ip_address(host.partition("%")[0]).is_loopback)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def origin_of(text: str) -> str:
    """Return the host, with a port where one is given, of an origin or of a whole address.

    Raises:
        InputError: it is neither.
    """
    origin = (urlsplit(text).netloc if "://" in text else text.strip().rstrip("/")).lower()
    host, _ = split_host_and_port(origin)
    bare = host.strip("[]")
    if (
        not bare
        or not set(bare) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._*:%")
        or (":" in bare and not (host.startswith("[") and _is_ip(bare)))
    ):
        raise InputError(
            f"--origin must be HOST or HOST:PORT, got {text!r}; give for example lab.example.org."
        )
    return origin


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: the address; ``0.0.0.0`` and ``::`` are all of this computer's.
        port: the port.
        prefix: path under which everything is, without slashes at its ends.
        secure: whether it speaks TLS.
        origins: further hosts, with ports, from which pages may be used.
    """

    host: str
    port: int
    prefix: str = ""
    secure: bool = False
    origins: tuple[str, ...] = field(default=())

    @property
    def loopback(self) -> bool:
        """Whether only this computer can reach it."""
        return is_loopback(self.host)

    @property
    def path(self) -> str:
        """Path of the page."""
        return f"/{self.prefix}/" if self.prefix else "/"

    def address(self, host: str) -> str:
        """Return the page's address at a host."""
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.secure else 'http'}://{shown}:{self.port}{self.path}"

    @property
    def addresses(self) -> list[str]:
        """Addresses of the page: first the best for this computer, then those for others."""
        if self.host in ("127.0.0.1", "localhost"):
            hosts = ["localhost"]
        elif self.host in ("0.0.0.0", "::", ""):
            families = (
                (socket.AF_INET,) if self.host == "0.0.0.0" else (socket.AF_INET, socket.AF_INET6)
            )
            hosts = ["localhost", *own_addresses(families)]
        else:
            hosts = [self.host.partition("%")[0]]
        return [self.address(host) for host in hosts]

    def knows(self, host: str) -> bool:
        """Return whether a request that names a host in its ``Host`` is meant for this server.

        A page of a foreign site may have its own name lead to this computer; its scripts could then
        read and steer this server as if they were its own. They cannot choose a number as a name.
        """
        host = host.strip("[]").lower()
        if host == "localhost" or any(
            match_host(host, split_host_and_port(origin)[0].strip("[]")) for origin in self.origins
        ):
            return True
        if self.loopback:
            return is_loopback(host)
        names = {self.host, socket.gethostname(), socket.getfqdn()}
        return _is_ip(host) or host in {name.lower() for name in names}

    def admits(self, origin: str, host: str) -> bool:
        """Return whether a page of an origin may open a websocket here.

        Args:
            origin: as a browser states it.
            host: what the request names in its ``Host``, which ``knows`` has checked.
        """
        asking = urlsplit(origin).netloc.lower()
        return bool(asking) and (asking == host.lower() or check_allowlist(asking, self._allowed))

    @property
    def _allowed(self) -> list[str]:
        # Browsers leave out the usual port.
        return [
            origin if split_host_and_port(origin)[1] or origin == "*" else f"{origin}:80"
            for origin in self.origins
        ]


class Foreign(Matcher):
    """Matches requests that are not meant for this server."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def match(self, request: HTTPServerRequest) -> dict[str, object] | None:
        """Return something if the request's host is not known."""
        return None if self._place.knows(request.host_name) else {}


def own_addresses(families: Iterable[socket.AddressFamily]) -> list[str]:
    """Return addresses at which other computers may reach this one, the most likely first."""
    families = tuple(families)
    found: list[str] = []
    for family, nobody in DOCUMENTATION:
        if family in families:
            try:
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect((nobody, 9))  # asks for the way there; sends nothing
                    found.append(probe.getsockname()[0])
            except OSError:  # no way out of this network
                continue
    if socket.AF_INET in families:
        found += _interface_addresses()
    try:
        named = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        found += [str(address[0]) for family, *_, address in named if family in families]
    except OSError:
        pass
    return [
        address
        for address in dict.fromkeys(found)
        if not ip_address(address.partition("%")[0]).is_loopback and "%" not in address
    ]


def _interface_addresses() -> list[str]:
    """Return the IPv4 address of each network interface, where the system is Linux."""
    if not sys.platform.startswith("linux"):
        return []
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return found
