"""WebShop on AgentGym's server: the same trips, over HTTP, among the server's own products.

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

SEPARATOR = " [SEP] "
MAX_ANSWER_BYTES = 10_000_000
"""Bytes of an answer; a page of WebShop has some thousands."""


@dataclass(frozen=True)
class Session:
    """A wish that the server knows by its number.

    Attributes:
        number: the server's session, which decides the wish.
        instruction: the wish in words.
    """

    number: int
    instruction: str

    @property
    def truth(self) -> str:
        """What would be right; the server tells no more than the instruction."""
        return self.instruction


class RefusedError(InputError):
    """The server answered that it cannot do what was asked."""


class AgentGym:
    """A WebShop server of AgentGym: one environment for each trip that is under way.

    Environments are kept for the next trips, since the server makes one slowly.

    Args:
        address: such as ``"http://127.0.0.1:36001"``.
        timeout: seconds after which a request is given up.

    Raises:
        InputError: no such address, or a time-out of nothing.
    """

    def __init__(self, address: str, timeout: float = 60.0) -> None:
        try:
            parts = urlsplit(str(address))
            whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            whole = whole and (parts.port is None or parts.port > 0)
        except ValueError:  # a port that is no number, brackets that do not close
            whole = False
        if not whole:
            raise InputError(
                f"server must be the address of a WebShop server, such as "
                f"http://127.0.0.1:36001, but {address!r:.80} came; give one that begins with "
                f"http:// or https://."
            )
        self.address = str(address).rstrip("/")
        self.timeout = real_number("timeout", timeout, 0.01)
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; the environments of this one stay its own."""
        return {"address": self.address, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start without environments."""
        self.__dict__.update(state)
        self._free: list[int] = []
        self._lock = Lock()

    # -- trips -------------------------------------------------------------------------------------

    def wishes(self, first: int, many: int) -> list[Session]:
        """Return the wishes of the sessions ``first``, ``first + 1``, …, as their pages tell them.

        Raises:
            InputError: the server does not answer, or has no such session.
        """
        found: list[Session] = []
        environment = self._environment()
        for number in range(first, first + many):
            found.append(Session(number, _instruction(self.reset(environment, number))))
        self._give_back([environment])
        return found

    @contextmanager
    def visits(self, wishes: Sequence[Session]) -> Iterator[list[Trip]]:
        """Open a trip for each wish, and let go of their environments in the end.

        Raises:
            InputError: the server does not answer, or has other wishes by now.
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
            except RefusedError:  # a server that was started again does not know it
                pass
        return Trip(self, self._environment(), wish)

    def _give_back(self, environments: Sequence[int]) -> None:
        with self._lock:
            self._free += environments

    # -- requests ----------------------------------------------------------------------------------

    def _environment(self) -> int:
        return whole_number("The server's environment", self._post("create"), 0)

    def reset(self, environment: int, session: int) -> str:
        """Begin a session and return its first page."""
        self._post("reset", env_idx=environment, session_id=session)
        return self._text("GET /observation", self._get("observation", environment))

    def available(self, environment: int) -> tuple[bool, list[str]]:
        """Return whether a page has a search bar, and what can be clicked on it."""
        match self._get("available_actions", environment):
            case {"has_search_bar": bool(bar), "clickables": list(values)}:
                return bar, [str(value) for value in values]
            case other:
                raise self._foreign("GET /available_actions", other)

    def step(self, environment: int, action: str) -> tuple[str, float, bool]:
        """Take an action; return the page, the reward in [0, 1] and whether the trip is over."""
        match self._post("step", env_idx=environment, action=action):
            case {"state": str(page), "reward": int() | float() as reward, "done": bool(done)} if (
                0 <= reward <= 1
            ):
                return page, float(reward), done
            case other:
                raise self._foreign("POST /step", other)

    def _text(self, what: str, reply: Any) -> str:
        if isinstance(reply, str):
            return reply
        raise self._foreign(what, reply)

    def _foreign(self, what: str, reply: Any) -> InputError:
        return InputError(
            f"The server at {self.address} must answer {what} as AgentGym's WebShop does, but "
            f"{json.dumps(reply)[:80]} came; start agentenv-webshop there."
        )

    def _get(self, path: str, environment: int) -> Any:
        return self._ask("GET", f"{path}?{urlencode({'env_idx': environment})}", None)

    def _post(self, path: str, **values: Any) -> Any:
        return self._ask("POST", path, json.dumps(values).encode())

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.address}/{path}", body, headers, method=method)
        kind: type[InputError] = InputError
        cause: Exception
        try:
            # Straight to it: a proxy for the internet does not know a server in the next room.
            with build_opener(ProxyHandler({})).open(request, timeout=self.timeout) as reply:
                return json.loads(reply.read(MAX_ANSWER_BYTES))
        except HTTPError as error:
            kind, cause, why = RefusedError, error, f"it said {error.code} {error.reason}"
        except (OSError, HTTPException) as error:  # not there, gone meanwhile, too slow
            reason = error.reason if isinstance(error, URLError) else error
            slow = isinstance(reason, TimeoutError)
            cause = error
            why = f"nothing came in {self.timeout:g} s" if slow else f"nothing came ({reason})"
        except ValueError as error:
            cause, why = error, "what came is no JSON"
        raise kind(
            f"The WebShop server at {self.address} must answer {method} /{path.partition('?')[0]}, "
            f"but {why}; see that it runs, and that this is its address."
        ) from cause


class Trip:
    """One way through the server's shop, in an environment that is its own meanwhile.

    Attributes:
        observation: the visible texts of the page.
        done: whether something was bought.
        reward: in [0, 1].
        bought: the title of what was bought; ``None`` if nothing.

    Raises:
        InputError: the server does not answer, or has another wish by now.
    """

    def __init__(self, server: AgentGym, environment: int, wish: Session) -> None:
        self._server, self.environment = server, environment
        self.observation = server.reset(environment, wish.number)
        if _instruction(self.observation) != wish.instruction:
            raise InputError(
                f"Session {wish.number} at {server.address} must be the wish "
                f"{wish.instruction!r:.80}, but its page is {self.observation!r:.80} by now; make "
                f"the task again."
            )
        self.done, self.reward = False, 0.0
        self.bought: str | None = None

    def act(self, action: Action | None) -> bool:
        """Take an action; one that is malformed or not possible here changes nothing.

        Returns:
            Whether it was possible.

        Raises:
            InputError: the server does not answer.
        """
        if action is None or self.done or not action.value:
            return False
        bar, clickables = self._server.available(self.environment)
        value = action.value.casefold()
        # The search bar's own button is listed, but a click on it searches for nothing.
        buttons = {each.casefold() for each in clickables} - ({"search"} if bar else set())
        if not (bar if action.name == "search" else value in buttons):
            return False
        page, written = self.observation, f"{action.name}[{action.value}]"
        self.observation, self.reward, self.done = self._server.step(self.environment, written)
        if self.done:
            self.bought = _title(page)
        return True


def _instruction(page: str) -> str:
    """Return the wish that stands on a page.

    Raises:
        InputError: there is none.
    """
    texts = page.split(SEPARATOR)
    for mark, wish in pairwise(texts):
        if mark.strip() == "Instruction:":
            return wish
    raise InputError(
        f"A page of WebShop must show its instruction after 'Instruction:', but {page!r:.80} came; "
        f"start the server with pages as text."
    )


def _title(page: str) -> str:
    """Return the title on an item's page, which stands before its price."""
    texts = page.split(SEPARATOR)
    prices = [place for place, text in enumerate(texts) if text.startswith("Price:")]
    return texts[prices[0] - 1] if prices and prices[0] else "something"
