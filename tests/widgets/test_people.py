"""People before a shared search: teachers, viewers, hands and turns, and what viewers can send."""

import json

import pytest
from bokeh.core.serialization import Serialized
from bokeh.document import Document
from bokeh.models import Button, TextInput
from m2n2lab.widgets.page.attendance import AttendanceView
from m2n2lab.widgets.page.gate import guard
from m2n2lab.widgets.runs.people import People
from m2n2lab.widgets.runs.roles import Role


@pytest.fixture
def people():
    return People()


def joined(people, *roles):
    return [people.join(role, lambda: None) for role in roles]


def test_teachers_steer_and_viewers_watch_until_a_teacher_gives_them_a_turn(people):
    teacher, first, second = joined(people, Role.TEACHER, Role.VIEWER, Role.VIEWER)
    steers = lambda: [person.number for person in people.all if person.steers]  # noqa: E731
    assert steers() == [teacher]
    people.raise_hand(first, True)
    assert people.find(first).hand
    people.give_turn(first, first, True)  # nobody gives a turn to themselves
    assert steers() == [teacher]
    people.give_turn(teacher, first, True)
    assert steers() == [teacher, first]
    assert not people.find(first).hand
    people.give_turn(teacher, second, True)  # one at a time
    assert steers() == [teacher, second]
    people.end_turn(second)
    assert steers() == [teacher]
    people.give_turn(teacher, second, True)
    people.give_turn(teacher, second, False)
    assert steers() == [teacher]


def test_everybody_has_a_number_and_a_colour_and_hears_of_all_changes(people):
    heard = []
    me = people.join(Role.VIEWER, lambda: heard.append(len(people.all)))
    other = people.join(Role.TEACHER, lambda: None)
    assert [person.name for person in people.all] == ["Teacher 2", "Viewer 1"]
    assert len({person.colour for person in people.all}) == 2
    people.raise_hand(me, True)
    people.leave(other)
    people.leave(other)
    assert heard == [1, 2, 2, 1]
    assert people.find(other) is None
    people.give_turn(other, me, True)  # who has left gives nothing
    assert not people.find(me).steers


def test_a_page_says_what_its_person_did_and_shows_who_is_here(people):
    teacher = AttendanceView(people, lambda: None)
    teacher.join(Role.TEACHER)
    teacher.update()
    assert teacher.shown.value == ""  # alone
    viewer = AttendanceView(people, lambda: None)
    viewer.said.value = "hand 1"  # before the browser is there
    viewer.join(Role.VIEWER)
    viewer.join(Role.VIEWER)
    viewer.said.value = "hand 2"
    teacher.update()
    shown = json.loads(teacher.shown.value)
    assert [(each["name"], each["hand"]) for each in shown["people"]] == [
        ("Teacher 1", False),
        ("Viewer 2", True),
    ]
    teacher.said.value = "2 1"
    viewer.update()
    assert json.loads(viewer.shown.value)["steers"]
    viewer.said.value = "1 3"  # a viewer gives no turns
    viewer.said.value = "end 4"
    viewer.update()
    assert not json.loads(viewer.shown.value)["steers"]
    for odd in ("", "99 5", "hand", "end", "x y"):
        viewer.said.value = odd
    viewer.leave()
    assert viewer.person is None


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_browser_sends_reaches_a_page_only_if_its_person_steers(packed):
    document, steers = Document(), [False]
    free, other = TextInput(name="people_said"), TextInput(name="anything")
    document.add_root(free)
    document.add_root(other)
    guard(document, lambda: steers[0], ("people_said",))

    def send(*events):
        patch = {"events": list(events)}
        document.apply_json_patch(Serialized(patch) if packed else patch)

    def changed(model, value):
        return {"kind": "ModelChanged", "model": {"id": model.id}, "attr": "value", "new": value}

    def event(name, model=None):
        entries = [] if model is None else [["model", {"id": model.id}]]
        message = {"type": "event", "name": name, "values": {"type": "map", "entries": entries}}
        return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": message}

    heard = []
    pressed = Button()
    pressed.on_click(lambda event: heard.append("pressed"))
    document.add_root(pressed)
    document.on_event("document_ready", lambda event: heard.append("ready"))
    unknown = {**changed(other, "x"), "model": {"id": "p0"}}
    gone = {"kind": "RootRemoved", "model": {"id": other.id}}
    click = event("button_click", pressed)
    send(changed(free, "hand 1"), changed(other, "mine"), unknown, gone, click)
    send(event("document_ready"))
    assert (free.value, other.value, len(document.roots)) == ("hand 1", "", 3)
    assert heard == ["ready"]
    steers[0] = True
    send(changed(other, "mine"), click)
    assert (other.value, heard) == ("mine", ["ready", "pressed"])
    steers[0] = False
    send(changed(other, "more"))
    assert other.value == "mine"
