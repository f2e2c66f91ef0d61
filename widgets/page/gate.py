"""Gate: what a browser may change on a page whose person only watches."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bokeh.core.serialization import Serialized

if TYPE_CHECKING:
    from bokeh.document import Document

LIFE = ("document_ready",)
"""Events of a page itself that it cannot do without."""


def guard(document: Document, steers: Callable[[], bool], free: Collection[str]) -> None:
    """Drop what a browser sends to a page while its person does not steer.

    Everything of a browser reaches a page in this one way, so that no control can be forgotten;
    that controls are greyed out in the browser is for people alone.

    Args:
        document: the page's.
        steers: returns whether the search follows the person.
        free: names of models that may always be set, as they concern this page alone.
    """
    apply = document.apply_json_patch

    def passes(event: dict[str, Any]) -> bool:
        if event["kind"] == "MessageSent":
            return event["msg_type"] == "bokeh_event" and event["msg_data"]["name"] in LIFE
        if event["kind"] != "ModelChanged":
            return False
        found = document.models.get_by_id(event["model"]["id"])
        return found is not None and found.name in free

    def guarded(patch: Any, *, setter: Any = None) -> None:
        if not steers():
            content = patch.content if isinstance(patch, Serialized) else patch
            content = {**content, "events": [*filter(passes, content["events"])]}
            patch = replace(patch, content=content) if isinstance(patch, Serialized) else content
        apply(patch, setter=setter)

    document.apply_json_patch = guarded  # type: ignore[method-assign]
