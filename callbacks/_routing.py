"""Which run a document belongs to, for consumers that follow several runs at once."""

from collections.abc import Mapping
from typing import Any


class RunRouting:
    """Remembers what points to what, so that every document can be told the run it belongs to."""

    def __init__(self) -> None:
        self._run_of: dict[str, str] = {}

    def run_of(self, name: str, doc: Mapping[str, Any]) -> str | None:
        """Return the uid of the run of a document; None where its run was never opened."""
        if name == "start":
            run = str(doc["uid"])
            self._run_of[run] = run
            return run
        parent = {
            "descriptor": "run_start",
            "stop": "run_start",
            "resource": "run_start",
            "stream_resource": "run_start",
            "event": "descriptor",
            "event_page": "descriptor",
            "stream_datum": "descriptor",
            "datum": "resource",
            "datum_page": "resource",
        }.get(name)
        found = None if parent is None else self._run_of.get(doc.get(parent, ""))
        if found is not None and "uid" in doc and isinstance(doc["uid"], str) and name in _NAMED:
            self._run_of[doc["uid"]] = found
        return found

    def forget(self, run: str) -> None:
        """Drop a run that is over."""
        self._run_of = {uid: owner for uid, owner in self._run_of.items() if owner != run}


_NAMED = ("descriptor", "resource", "stream_resource")
