"""Who may open a page, and what a client of any kind may not do; without a browser."""

import socket
from contextlib import suppress
from urllib.parse import parse_qs, urlsplit

import pytest
from helpers.raw_pages import client, cookie_of, refusal, token_of
from helpers.small_servers import one_button, served_here
from m2n2lab.widgets.runs.roles import Role, current_role
from m2n2lab.widgets.server.access import Door, Password
from m2n2lab.widgets.server.addresses import Place, is_loopback, origin_of, own_addresses
from tornado.websocket import WebSocketClosedError

from m2n2lab import InputError


@pytest.fixture(scope="module")
def one():
    with client() as one:
        yield one


@pytest.fixture(scope="module")
def local():
    """A server on loopback, without a door."""
    with served_here() as (address, _):
        yield address


roles = []
"""Of the pages that were made."""


def page_with_a_role():
    roles.append(current_role())
    return one_button()


@pytest.fixture(scope="module")
def guarded():
    """A server with a door, for teachers and viewers."""
    doors = []

    def made(place):
        doors.append(Door(f"lab-{place.port}", place.path, viewers=True))
        return doors[0]

    with served_here(page_with_a_role, made, origins=("lab.example", "*.trusted.example:8000")) as (
        address,
        _,
    ):
        yield address, doors[0]


# -- hosts and origins ---------------------------------------------------------------------------


def host_of(address):
    return urlsplit(address).netloc


@pytest.mark.parametrize(
    "host",
    ["evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "10.9.9.9", "[2001:db8::1]", ""],
)
def test_a_server_on_loopback_answers_to_no_foreign_name(one, local, host):
    port = urlsplit(local).port
    for name in (f"{host}:{port}", host):
        for path in ("", "static/js/bokeh.min.js", "metadata", "nothing"):
            answer = one.get(f"{local}{path}", headers={"Host": name})
            assert answer.code in (400, 403)
            assert "token" not in answer.body.decode()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST"])
def test_a_server_on_loopback_answers_to_the_names_of_this_computer(one, local, host):
    port = urlsplit(local).port
    assert one.get(local, headers={"Host": f"{host}:{port}"}).code == 200


FOREIGN = ["http://evil.com", "http://127.0.0.1.evil.com:{port}", "null", "file://", "", "http://"]
FOREIGN += ["http://localhost:80", "http://localhost", "https://localhost.evil:{port}"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_page_of_another_site_opens_no_websocket(one, local, origin):
    page = one.open(local)
    headers = {"Origin": origin.format(port=urlsplit(local).port)}
    assert refusal(one, local, token_of(page.html), headers) == 403


def test_the_page_itself_opens_one_by_any_of_its_names(one, local):
    page = one.open(local)
    port = urlsplit(local).port
    for name in ("localhost", "127.0.0.1", "[::1]"):
        headers = {"Origin": f"http://{name}:{port}", "Host": f"{name}:{port}"}
        assert refusal(one, local, token_of(page.html), headers) == 101
    assert refusal(one, local, token_of(page.html)) == 101  # as a program without a browser


def test_a_proxy_s_own_name_is_known_by_its_origin(one, guarded):
    address, door = guarded
    known = {"Authorization": f"Bearer {door.tokens[Role.TEACHER]}"}
    token = token_of(one.open(address, headers=known).html)
    for host, origin in (
        ("lab.example", "https://lab.example"),
        (host_of(address), "https://lab.example"),  # a proxy may ask by the server's own name
        ("a.trusted.example:8000", "http://a.trusted.example:8000"),
    ):
        assert one.get(address, headers={**known, "Host": host}).code == 200
        assert refusal(one, address, token, {**known, "Host": host, "Origin": origin}) == 101
    for origin in (
        "https://evil.lab.example",
        "https://lab.example.evil",
        "http://trusted.example",
    ):
        assert refusal(one, address, token, {**known, "Origin": origin}) == 403


# -- tokens of pages -----------------------------------------------------------------------------


def test_only_a_token_that_was_issued_opens_a_websocket_and_nothing_is_logged(one, local, caplog):
    page = one.open(local)
    own = token_of(page.html)
    with served_here() as (other, _):
        foreign = token_of(one.open(other).html)
    head, _, signature = own.partition(".")
    made_by_hand = [
        "x",
        "",
        "a.b.c",
        own[:-3],
        head,
        f"{head}.",
        f"{head[:-4]}.{signature}",
        foreign,
    ]
    for token in made_by_hand:
        assert refusal(one, local, token) == 1008
    assert refusal(one, local, own) == 101
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("name", ["bokeh-session-id", "bokeh-token"])
def test_nobody_chooses_the_session_of_a_page(one, local, name):
    mine = token_of(one.open(local).html)
    for value in ("mallory", mine, ""):
        answer = one.get(f"{local}?{name}={value}")
        assert (answer.code, "token" in answer.body.decode()) == (403, False)
    assert one.get(local, headers={"Bokeh-Session-Id": "mallory"}).code == 403


def test_a_page_s_token_repeats_no_cookie(one, local):
    from bokeh.util.token import get_token_payload

    headers = {"Cookie": "secret=of-another-server", "Authorization": "Bearer secret"}
    payload = get_token_payload(token_of(one.get(local, headers=headers).body.decode()))
    assert "secret" not in str(payload)


def test_other_pages_cannot_load_one_as_a_script_or_a_picture(one, local):
    assert one.get(f"{local}autoload.js?bokeh-autoload-element=x").code == 404
    assert one.get(local, headers={"Sec-Fetch-Mode": "no-cors"}).code == 403
    assert one.get(local, headers={"Sec-Fetch-Mode": "navigate"}).code == 200
    assert one.get(f"{local}components/antigravity/a/_css/c").code == 404


@pytest.mark.parametrize("path", ["", "login", "static/js/bokeh.min.js", "none", "autoload.js"])
def test_every_answer_tells_browsers_what_a_page_may_do(one, guarded, path):
    headers = one.get(guarded[0] + path).headers
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("name", ["%00", "a%00.js", "%ff", "%ed%a0%80", "a" * 5_000, "%2e%2e/x"])
def test_a_name_that_no_file_can_have_is_not_found(one, local, name, caplog):
    for place in ("static", "static/extensions/panel", ""):
        assert one.get(f"{local}{place}/{name}").code in (400, 403, 404)
    assert "Traceback" not in caplog.text


def test_messages_and_bodies_have_a_greatest_size(one, local):
    page = one.open(local)

    async def sends_much():
        await page.load()
        with suppress(WebSocketClosedError):  # while it is sent
            await page.set("Click", "label", "x" * 10_000_000)
        while await page.read() is not None:
            pass

    one.run(sends_much())  # until the server closes the websocket
    assert one.get(local, method="POST", body="x" * 100_000).code in (400, 405, 413, 599)
    assert one.get(local).code == 200


# -- the door ------------------------------------------------------------------------------------


def test_without_a_link_there_is_a_form_and_no_page(one, guarded, caplog):
    address, door = guarded
    before = len(roles)
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Cookie": f"lab-{urlsplit(address).port}=teacher"},
    ):
        answer = one.get(address, headers=headers)
        assert answer.code == 302
        form = one.get(address + answer.headers["Location"].removeprefix("./"))
        assert "the link" in form.body.decode()
    assert one.get(f"{address}?token=wrong").code == 302
    assert one.get(f"{address}metadata").code == 302
    assert len(roles) == before
    assert door.tokens[Role.TEACHER] not in form.body.decode()
    assert "Uncaught" not in caplog.text


@pytest.mark.parametrize("role", list(Role))
def test_a_link_opens_a_page_in_its_role_and_leaves_the_address(one, guarded, role):
    address, door = guarded
    link = door.link(address, role)
    answer = one.get(f"{link}&seed=3&seed=4")
    assert (answer.code, answer.headers["Location"]) == (302, "./?seed=3&seed=4")
    (cookie,) = answer.headers.get_list("Set-Cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    known = {"Cookie": cookie_of(answer)}
    page = one.open(address, headers=known)
    assert roles[-1] is role
    assert door.tokens[role] not in page.html
    token = token_of(page.html)
    origin = {"Origin": address.rstrip("/")}
    assert [refusal(one, address, token, {**known, **more}) for more in ({}, origin)] == [101, 101]
    assert [refusal(one, address, token, more) for more in ({}, origin)] == [403, 403]
    bearer = {"Authorization": f"token {door.tokens[role]}"}
    assert refusal(one, address, token, bearer) == 101


def test_a_viewer_cannot_become_a_teacher(one, guarded):
    address, door = guarded
    answer = one.get(door.link(address, Role.VIEWER))
    name, value = cookie_of(answer).split("=", 1)
    teacher = cookie_of(one.get(door.link(address, Role.TEACHER))).split("=", 1)[1]
    assert value != teacher
    one.get(f"{address}?role=teacher", headers={"Cookie": f"{name}={value}"})
    assert roles[-1] is Role.VIEWER
    forged = value.replace(value.split("|")[-2].split(":")[-1], "dGVhY2hlcg==")
    assert one.get(address, headers={"Cookie": f"{name}={forged}"}).code == 302
    assert door.tokens[Role.VIEWER] != door.tokens[Role.TEACHER]


def test_a_password_opens_what_the_link_asked_for(one):
    def made(place):
        return Door("lab", place.path, Password("correct horse"))

    with served_here(page_with_a_role, made, prefix="class/one") as (address, _):
        assert urlsplit(address).path == "/class/one/"
        asked = one.get(f"{address}?seed=3").headers["Location"]
        login = address + asked.removeprefix("./")
        assert parse_qs(urlsplit(login).query)["next"] == ["/class/one/?seed=3"]
        for wrong in ("secret=correct+horses", "secret=", "", "secret=%00%ff"):
            assert one.get(login, method="POST", body=wrong).code in (400, 403)
        right = one.get(login, method="POST", body="secret=correct+horse")
        assert (right.code, right.headers["Location"]) == (303, "./?seed=3")
        assert "Path=/class/one/" in right.headers["Set-Cookie"]
        one.open(address, headers={"Cookie": cookie_of(right)})
        assert roles[-1] is Role.TEACHER
        elsewhere = one.get(
            f"{address}login?next=//evil.com/", method="POST", body="secret=correct+horse"
        )
        assert elsewhere.headers["Location"] == "./"
        assert one.get(f"{address.rstrip('/')}?seed=3").code == 302
        assert one.get(address.replace("class/one/", "")).code == 404


def test_a_token_of_one_s_own_stays_after_a_restart_and_is_long_enough():
    doors = [Door("lab", token="a token of my own", viewers=True) for _ in range(2)]
    assert doors[0].tokens == doors[1].tokens
    assert doors[0].tokens[Role.TEACHER] == "a token of my own"
    assert Door("lab").tokens != Door("lab").tokens
    assert list(Door("lab").tokens) == [Role.TEACHER]
    with pytest.raises(InputError, match="at least 8 characters"):
        Door("lab", token="short")
    with pytest.raises(InputError, match="at least 8 characters"):
        Password("short")


# -- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "first"),
    [
        ("127.0.0.1", "http://localhost:5006/"),
        ("localhost", "http://localhost:5006/"),
        ("::1", "http://[::1]:5006/"),
        ("127.0.0.2", "http://127.0.0.2:5006/"),
        ("0.0.0.0", "http://localhost:5006/"),
        ("::", "http://localhost:5006/"),
        ("10.1.2.3", "http://10.1.2.3:5006/"),
        ("2001:db8::7", "http://[2001:db8::7]:5006/"),
        ("lab.example", "http://lab.example:5006/"),
    ],
)
def test_the_address_that_is_printed_is_one_that_the_server_knows(host, first):
    place = Place(host, 5006)
    assert place.addresses[0] == first
    for address in place.addresses:
        parts = urlsplit(address)
        assert place.knows(parts.hostname)
        assert place.admits(f"http://{parts.netloc}", parts.netloc)
    assert (
        place.loopback
        == is_loopback(host)
        == (host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"))
    )
    assert not place.knows("evil.com")


def test_all_addresses_of_this_computer_are_found():
    for address in own_addresses([socket.AF_INET]):
        with socket.socket() as probe:
            probe.bind((address, 0))


@pytest.mark.parametrize("text", ["", "http://", "a b", "::1:5006", "lab/path", "<x>", "[::1"])
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(InputError, match="--origin must be HOST or HOST:PORT"):
        origin_of(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Lab.example/", "lab.example"),
        ("lab.example:8000", "lab.example:8000"),
        ("[::1]:80", "[::1]:80"),
        ("*", "*"),
    ],
)
def test_an_origin_may_be_an_address(text, origin):
    assert origin_of(text) == origin
