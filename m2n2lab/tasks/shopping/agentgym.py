"""AgentGym client: WebShop trips on a server, over HTTP, with the server's own products.

Xi et al., "AgentGym: Evolving Large Language Model-based Agents across Diverse Environments",
arXiv 2406.04151; the protocol is that of its ``agentenv-webshop/agentenv_webshop/server.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from itertools import pairwise
from threading import Lock
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from m2n2lab.tasks.shopping.simulator import Action
from m2n2lab.utils.errors import InputError, real_number, whole_number
from m2n2lab.utils.json_text import parse_json

SEPARATOR = " [SEP] "
MAX_ANSWER_BYTES = 10_000_000
"""Longest answer that is read; a page of WebShop has some thousands of bytes."""


@dataclass(frozen=True)
class Session:
    """A session of the server, which determines a wish.

    Attributes:
        number: the number of the session.
        instruction: the text of the wish.
    """

    number: int
    instruction: str

    @property
    def truth(self) -> str:
        """The instruction: the server does not disclose the right product."""
        return self.instruction


class RefusedError(InputError):
    """A request that the server answered with an HTTP error."""


class AgentGym:
    """A WebShop server of AgentGym, with one environment for each trip in progress.

    Environments are reused, since the server takes long to make one.

    Args:
        address: such as ``"http://127.0.0.1:36001"``.
        timeout: longest wait for an answer in seconds.

    Raises:
        InputError: the address is malformed, or the timeout is too short.
    """

    def __init__(self, address: str, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(str(address))
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
            valid = valid and (parts.port is None or parts.port > 0)
        except ValueError:  # a port that is no number, brackets that do not close
            valid = False
        if not valid:
            raise InputError(
                f"server must be the address of a WebShop server, such as "
                f"http://127.0.0.1:36001, got {address!r:.80}; give one that starts with http:// "
                f"or https://."
            )
        self.address = str(address).rstrip("/")
        self.timeout = real_number("timeout", timeout, 0.01)
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, without environments."""
        return {"address": self.address, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, without environments."""
        self.__dict__.update(state)
        self._free: list[int] = []
        self._lock = Lock()

    # -- trips -------------------------------------------------------------------------------------

    def wishes(self, first: int, count: int) -> list[Session]:
        """Return the wishes of ``count`` sessions from ``first`` on, as shown on their pages.

        Raises:
            InputError: the server does not answer, or has no such session.
        """
        found: list[Session] = []
        environment = self._environment()
        for number in range(first, first + count):
            found.append(Session(number, _instruction(self.reset(environment, number))))
        self._give_back([environment])
        return found

    @contextmanager
    def visits(self, wishes: Sequence[Session]) -> Iterator[list[Trip]]:
        """Open a trip for each wish, and release their environments at the end.

        Raises:
            InputError: the server does not answer, or its wishes have changed.
        """
        opened: list[Trip] = []
        try:
            for wish in wishes:
                opened.append(self._open(wish))
            yield opened
        finally:
            self._give_back([trip.environment for trip in opened])

    def _open(self, wish: Session) -> Trip:
        with self._lock:
            kept = self._free.pop() if self._free else None
        if kept is not None:
            try:
                return Trip(self, kept, wish)
            except RefusedError:  # a restarted server does not know it
                pass
        return Trip(self, self._environment(), wish)

    def _give_back(self, environments: Sequence[int]) -> None:
        with self._lock:
            self._free += environments

    # -- requests ----------------------------------------------------------------------------------

    def _environment(self) -> int:
        return whole_number("The server's environment", self._post("create"), 0)

    def reset(self, environment: int, session: int) -> str:
        """Start a session and return its first page."""
        self._post("reset", env_idx=environment, session_id=session)
        return self._text("GET /observation", self._get("observation", environment))

    def available(self, environment: int) -> tuple[bool, list[str]]:
        """Return whether the page has a search bar, and the values that can be clicked."""
        match self._get("available_actions", environment):
            case {"has_search_bar": bool(bar), "clickables": list(values)}:
                return bar, [str(value) for value in values]
            case other:
                raise self._unexpected("GET /available_actions", other)

    def step(self, environment: int, action: str) -> tuple[str, float, bool]:
        """Take an action; return the page, the reward in [0, 1] and whether the trip has ended."""
        match self._post("step", env_idx=environment, action=action):
            case {"state": str(page), "reward": int() | float() as reward, "done": bool(done)} if (
                0 <= reward <= 1
            ):
                return page, float(reward), done
            case other:
                raise self._unexpected("POST /step", other)

    def _text(self, request: str, reply: Any) -> str:
        if isinstance(reply, str):
            return reply
        raise self._unexpected(request, reply)

    def _unexpected(self, request: str, reply: Any) -> InputError:
        return InputError(
            f"The server at {self.address} must answer {request} as AgentGym's WebShop does, got "
            f"{json.dumps(reply)[:80]}; start agentenv-webshop there."
        )

    def _get(self, path: str, environment: int) -> Any:
        return self._ask("GET", f"{path}?{urlencode({'env_idx': environment})}", None)

    def _post(self, path: str, **values: Any) -> Any:
        return self._ask("POST", path, json.dumps(values).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.address}/{path}", body, headers, method=method)
        error_class: type[InputError] = InputError
        cause: Exception
        try:
            # Without a proxy, which may not reach a server on the local network.
            with build_opener(ProxyHandler({})).open(request, timeout=self.timeout) as reply:
                return parse_json(reply.read(MAX_ANSWER_BYTES))
        except HTTPError as error:
            error_class, cause = RefusedError, error
            got = f"status {error.code} {error.reason}"
        except (OSError, HTTPException) as error:  # not running, stopped, or too slow
            reason = error.reason if isinstance(error, URLError) else error
            slow = isinstance(reason, TimeoutError)
            cause = error
            got = f"no answer in {self.timeout:g} s" if slow else f"no answer ({reason})"
        except ValueError as error:
            cause, got = error, "an answer that is not JSON"
        raise error_class(
            f"The WebShop server at {self.address} must answer {method} /{path.partition('?')[0]}, "
            f"got {got}; check that it runs, and that this is its address."
        ) from cause


class Trip:
    """One trip through the server's shop, in an environment of its own.

    Attributes:
        observation: the visible texts of the page.
        done: whether a product was bought.
        reward: in [0, 1].
        bought: the title of the product bought; ``None`` if none was.

    Raises:
        InputError: the server does not answer, or its wish has changed.
    """

    def __init__(self, server: AgentGym, environment: int, wish: Session) -> None:
        self._server, self.environment = server, environment
        self.observation = server.reset(environment, wish.number)
        if _instruction(self.observation) != wish.instruction:
            raise InputError(
                f"Session {wish.number} at {server.address} must be the wish "
                f"{wish.instruction!r:.80}, got the page {self.observation!r:.80}; make the task "
                f"again."
            )
        self.done, self.reward = False, 0.0
        self.bought: str | None = None

    def act(self, action: Action | None) -> bool:
        """Take an action; one that is malformed or impossible on this page changes nothing.

        Returns:
            Whether it was possible.

        Raises:
            InputError: the server does not answer.
        """
        if action is None or self.done or not action.value:
            return False
        bar, clickables = self._server.available(self.environment)
        value = action.value.casefold()
        # The search bar's button is listed too, but a click on it searches for nothing.
        buttons = {each.casefold() for each in clickables} - ({"search"} if bar else set())
        if not (bar if action.name == "search" else value in buttons):
            return False
        page, text = self.observation, f"{action.name}[{action.value}]"
        self.observation, self.reward, self.done = self._server.step(self.environment, text)
        if self.done:
            self.bought = _title(page)
        return True


def _instruction(page: str) -> str:
    """Return the wish on a page.

    Raises:
        InputError: there is none.
    """
    texts = page.split(SEPARATOR)
    for mark, wish in pairwise(texts):
        if mark.strip() == "Instruction:":
            return wish
    raise InputError(
        f"A page of WebShop must show its instruction after 'Instruction:', got {page!r:.80}; "
        f"start the server with pages as text."
    )


def _title(page: str) -> str:
    """Return the title on an item's page, which precedes its price."""
    texts = page.split(SEPARATOR)
    prices = [place for place, text in enumerate(texts) if text.startswith("Price:")]
    return texts[prices[0] - 1] if prices and prices[0] else "something"
