"""Whether Tiled serves the frames that it was only told the file of: it does not look when it is told."""

import time
from collections.abc import Mapping
from typing import Any

_PAUSE_S = 5.0
# A file that is being written may refuse a reader once.
_FAILURES = 2


class ServedFrames:
    """Reads one pixel of each stream of a run back from Tiled.

    Parameters
    ----------
    container : tiled client of a ``CatalogOfBlueskyRuns``
        Where the run is written.
    uid : str
        The run.
    """

    def __init__(self, container: Any, uid: str) -> None:
        self._container = container
        self._uid = uid
        self._waiting: set[tuple[str, str]] = set()
        self._failures = 0
        self._next_look = 0.0

    def expect(self, descriptor: Mapping[str, Any]) -> None:
        """Note which keys of a stream are in files."""
        data_keys = descriptor.get("data_keys")
        for key, about in data_keys.items() if isinstance(data_keys, Mapping) else ():
            if isinstance(about, Mapping) and about.get("external"):
                self._waiting.add((str(descriptor.get("name")), key))

    def problem(self, *, final: bool) -> str | None:
        """Look, at most every few seconds unless it is the last time; return what is wrong, once."""
        if not self._waiting or (not final and time.monotonic() < self._next_look):
            return None
        self._next_look = time.monotonic() + _PAUSE_S
        refused = []
        for stream, key in sorted(self._waiting):
            status = self._read(stream, key)
            if status == 200:
                self._waiting.discard((stream, key))
            elif status is not None:
                refused.append(f"{stream}/{key}")
        self._failures += bool(refused)
        if not refused or (self._failures < _FAILURES and not final):
            return None
        self._waiting.clear()
        return (
            f"Tiled cannot read the frames {', '.join(refused)} of run {self._uid[:8]} from the detector's file; they "
            "are safe there: let the server read that folder (nimco serve --readable FOLDER, or readable_storage in "
            "its configuration)"
        )

    def _read(self, stream: str, key: str) -> int | None:
        """Status of a request for one pixel, not repeated; None while Tiled has no frame of the stream."""
        try:
            array = self._container[self._uid][stream].base[key]
        except KeyError:
            return None
        if not all(array.shape):
            return None
        first = ",".join("0:1" for _ in array.shape)
        url = array.item["links"]["full"]
        answer = array.context.http_client.get(
            url, params={"slice": first}, headers={"Accept": "application/octet-stream"}
        )
        return int(answer.status_code)
