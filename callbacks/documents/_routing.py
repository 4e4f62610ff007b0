"""Which run a document belongs to, for consumers that follow several runs at once."""

from collections.abc import Mapping
from typing import Any


class RunRouting:
    """Remembers what points to what, so that every document can be told the run it belongs to."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}

    def run_of(self, name: str, doc: Any) -> str | None:
        """Return the uid of the run of a document; None where its run was never opened, or nothing says which."""
        if not isinstance(doc, Mapping):
            return None
        uid = doc.get("uid")
        if name == "start":
            if not isinstance(uid, str):
                return None
            self._run_of[uid] = uid
            return uid
        parent = _PARENTS.get(name)
        points_to = None if parent is None else doc.get(parent)
        if not isinstance(points_to, str):
            return None
        found = self._run_of.get(points_to)
        if found is not None and isinstance(uid, str) and name in _NAMED:
            self._run_of[uid] = found
        return found

    def forget(self, run: str) -> None:
        """Drop a run that is over."""
        self._run_of = {uid: owner for uid, owner in self._run_of.items() if owner != run}


_NAMED = ("descriptor", "resource", "stream_resource")
_PARENTS = {
    "descriptor": "run_start",
    "stop": "run_start",
    "resource": "run_start",
    "stream_resource": "run_start",
    "event": "descriptor",
    "event_page": "descriptor",
    "stream_datum": "descriptor",
    "datum": "resource",
    "datum_page": "resource",
}

DOCUMENT_NAMES = frozenset({"start", *_PARENTS})
