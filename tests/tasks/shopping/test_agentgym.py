"""WebShop on a server: one that speaks AgentGym's protocol on top of the text shop."""

import json
import pickle
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from helpers.language import scripted

from m2n2lab import InputError
from m2n2lab.tasks import WebShop, make_again, webshop
from m2n2lab.tasks.shopping.agentgym import AgentGym
from m2n2lab.tasks.shopping.catalogue import goals, products
from m2n2lab.tasks.shopping.simulator import Action, Shop, Visit, parse_action

SOLD = products(0)
WISHES = goals(SOLD)[:12]


class Fake:
    """The server's answers by path; ``broken`` changes some of them."""

    def __init__(self):
        self.shop, self.environments, self.asked, self.broken = Shop(SOLD), {}, [], {}
        self.first = 100  # of the environments' numbers

    def answer(self, path, values):
        self.asked.append((path, values))
        reply = getattr(self, path)(**values)
        return self.broken.get(path, lambda reply: reply)(reply)

    def create(self):
        number = self.first + len(self.environments)
        self.environments[number] = None
        return number

    def reset(self, env_idx, session_id):
        self.environments[env_idx]  # raises, as the server does, where it is not known
        self.environments[env_idx] = Visit(self.shop, WISHES[session_id])
        return [self.environments[env_idx].observation, None]

    def observation(self, env_idx):
        return self.environments[int(env_idx)].observation

    def available_actions(self, env_idx):
        visit = self.environments[int(env_idx)]
        bar = visit.page == "search"
        clickables = ["search"] if bar else [value.lower() for value in visit.clickables]
        return {"has_search_bar": bar, "clickables": clickables}

    def step(self, env_idx, action):
        visit = self.environments[env_idx]
        visit.act(parse_action(action))
        page = visit.observation
        return {"state": page, "reward": visit.reward, "done": visit.done, "info": None}


@contextmanager
def served(fake):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            self.reply(parts.path, {k: v for k, (v,) in parse_qs(parts.query).items()})

        def do_POST(self):
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(self.path, json.loads(raw))

        def reply(self, path, values):
            try:
                status, reply = 200, fake.answer(path.strip("/"), values)
            except Exception:
                status, reply = 500, "Internal Server Error"
            raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.end_headers()
            with suppress(ConnectionError):  # the client no longer waits
                self.wfile.write(raw)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def address(fake):
    with served(fake) as address:
        yield address


def script(wish):
    """Actions that buy what a wish is made for, with two that are not possible."""
    picks = [f" click[{value}]" for value in wish.options]
    start = [f" search[{wish.product.title}]", " nothing", " click[Buy Now]"]
    return [*start, f" click[{wish.product.id}]", *picks, " Action: click[Buy Now]"]


def test_trips_on_a_server_are_the_same_as_in_the_text_shop(address, fake, monkeypatch):
    task = webshop(server=address, limit=2, held_out=1, turns=9)
    assert list(task.names) == [wish.instruction for wish in WISHES[:2]]
    local_task = WebShop(fake.shop, WISHES[:2], WISHES[2:3], turns=9)
    seen = []
    for each in (task, local_task):
        asked = scripted(each, monkeypatch, script(WISHES[0]))
        seen.append((asked, each.episodes(None), each.held_out(None)))
    assert seen[0][0] == seen[1][0]  # the prompts
    for remote, local in zip(seen[0][1], seen[1][1], strict=True):
        assert (remote.turns, remote.reward) == (local.turns, local.reward)
        possible = [turn.possible for turn in remote.turns[:4]]
        assert possible == [True, False, False, True]
    assert seen[0][1][0].reward == 1.0
    assert seen[0][1][0].bought == WISHES[0].product.title
    assert seen[0][2] == seen[1][2]
    assert "(not possible here: nothing happened)" in seen[0][1][0].transcript


def test_impossible_actions_are_not_sent(address, fake):
    server = AgentGym(address)
    with server.visits(server.wishes(0, 1)) as (trip,):
        before = trip.observation
        for action in (None, Action("click", "Buy Now"), Action("click", "search")):
            assert not trip.act(action)
        assert not trip.act(Action("search", ""))
        assert trip.observation == before
        assert "step" not in [path for path, _ in fake.asked]
        assert trip.act(Action("search", "green tea"))
        assert not trip.act(Action("search", "green tea"))  # no search bar on this page
        assert [values["action"] for path, values in fake.asked if path == "step"] == [
            "search[green tea]"
        ]


def test_environments_are_used_again_and_made_anew_after_a_restart(address, fake, monkeypatch):
    task = webshop(server=address, limit=3, held_out=0, turns=1)
    scripted(task, monkeypatch, [" search[tea]"])
    first = task.evaluate(None)
    assert len(fake.environments) == 3
    assert task.evaluate(None).tolist() == first.tolist() == [0.0] * 3
    assert len(fake.environments) == 3
    fake.environments, fake.first = {}, 500
    task.evaluate(None)
    assert sorted(fake.environments) == [500, 501, 502]
    # Another process does not share them.
    copy = pickle.loads(pickle.dumps(task.shop))
    with copy.visits(task.goals[:1]):
        assert len(fake.environments) == 4


def test_a_task_on_a_server_can_be_made_again(address):
    task = webshop(server=address, limit=2, first=3, turns=4)
    assert task.point_name(0) == WISHES[3].instruction
    again = make_again(json.loads(json.dumps(task.origin)))
    assert (again.turns, again.identity()) == (4, task.identity())


def test_a_sample_shows_the_wish_and_the_trip(address, monkeypatch):
    task = webshop(server=address, limit=1, held_out=0, turns=2)
    scripted(task, monkeypatch, ["no"])
    (sample,) = task.samples(None, [0])
    assert (sample.text, sample.truth) == (WISHES[0].instruction, WISHES[0].instruction)
    assert (sample.prediction, sample.right) == ("nothing", False)
    assert sample.answer.count("Observation:") == 2


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("create", lambda _: "x", "environment must be an integer"),
        ("create", lambda _: b"<html>", "POST /create, got an answer that is not JSON"),
        ("observation", lambda _: 7, "GET /observation as AgentGym's WebShop does, got 7;"),
        ("observation", lambda _: "a page", "its instruction after 'Instruction:', got 'a page'"),
        ("available_actions", lambda _: [1], r"available_actions as .* got \[1\];"),
        ("step", lambda reply: {**reply, "reward": 7}, "POST /step as AgentGym's"),
        ("step", lambda reply: {**reply, "reward": float("nan")}, "POST /step as AgentGym's"),
        ("step", lambda reply: {**reply, "done": "no"}, "POST /step as AgentGym's"),
        ("step", lambda _: 1 / 0, "POST /step, got status 500 Internal Server Error; check"),
    ],
)
def test_an_unexpected_answer_is_refused_in_one_sentence(address, fake, path, change, message):
    fake.broken[path] = change
    with pytest.raises(InputError, match=message) as caught:  # noqa: PT012
        server = AgentGym(address)
        with server.visits(server.wishes(0, 1)) as (trip,):
            trip.act(Action("search", "tea"))
    assert "\n" not in str(caught.value)


def test_a_server_with_too_few_or_other_wishes_is_refused(address, monkeypatch):
    with pytest.raises(InputError, match="POST /reset, got status 500"):
        webshop(server=address, limit=12, held_out=1)
    task = webshop(server=address, limit=1)
    monkeypatch.setitem(globals(), "WISHES", WISHES[5:])
    message = r"Session 0 at .* must be the wish .* make the task again"
    with pytest.raises(InputError, match=message), task.shop.visits(task.goals):
        pass


def test_a_server_that_is_slow_or_gone_is_reported(fake):
    with served(fake) as address:
        task = webshop(server=address, limit=1, held_out=0)
        release = threading.Event()
        fake.broken = {name: lambda _: release.wait(10) for name in ("create", "reset")}
        try:
            with pytest.raises(InputError, match=r"POST /create, got no answer in 0\.1 s; check"):
                webshop(server=address, limit=1, timeout=0.1)
        finally:
            release.set()
    message = r"must answer POST /reset, got no answer .*refused"
    with pytest.raises(InputError, match=message), task.shop.visits(task.goals):
        pass


@pytest.mark.parametrize(
    "server", ["", "127.0.0.1:36001", "file:///etc/passwd", "http://", "http://a:b", "http://[", 7]
)
def test_a_malformed_address_is_refused(server):
    with pytest.raises(InputError, match="must be the address of a WebShop server"):
        webshop(server=server)


def test_files_and_a_server_are_not_mixed(tmp_path):
    with pytest.raises(InputError, match="give server=… or items=…, not both"):
        webshop(tmp_path / "items.json", server="http://127.0.0.1:1")
