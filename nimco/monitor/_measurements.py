"""The measurements of a server: which run, which have maps, and how far they are."""

import time
from collections.abc import Mapping
from typing import Any

from scan_contract import is_energy_scan

from ._plain import plain
from ._source import Source

_LOOK_S = 1.0
_MOST = 60
# Results that are final change when they are analysed anew: that is looked for now and then.
_LOOK_AGAIN_S = 20.0
# A run without a stop document of which nothing came for so long has lost its session.
_LOST_S = 600.0
_MARK = "@"


class Measurements(Source):
    """The last measurements of a server, the newest first.

    Attributes
    ----------
    rows : list of dict
        Of each run: ``uid``, ``title``, ``sample``, ``began_s``, ``status``, ``status_text``, and ``results``: of each
        ``name``, ``n_frames``, ``frames_expected``, ``final``.
    """

    def __init__(self, client: Any) -> None:
        super().__init__("monitor measurements")
        self._client = client
        self._results: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self.rows: list[dict[str, Any]] | None = None

    def _follow(self) -> None:
        while not self._ended.is_set():
            rows = self._look()
            if rows != self.rows or self.problem:
                self.rows, self.problem = rows, ""
                self._changed()
            self._pause(_LOOK_S)

    def _look(self) -> list[dict[str, Any]]:
        raw = {key: node.metadata for key, node in self._client["raw"].items().tail(_MOST)}
        maps = dict(self._client["maps"].items().tail(_MOST))
        found = []
        for uid in {**raw, **maps}:
            metadata = raw.get(uid)
            if metadata is not None and not is_energy_scan(metadata.get("start")) and uid not in maps:
                continue
            results = self._results_of(uid, maps[uid]) if uid in maps else []
            found.append(_row(uid, metadata, results))
        for uid in self._results.keys() - maps.keys():
            del self._results[uid]
        found.sort(key=lambda row: row["began_s"], reverse=True)
        return found[:_MOST]

    def _results_of(self, uid: str, of_run: Any) -> list[dict[str, Any]]:
        known = self._results.get(uid)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        results = [_result(key, node.metadata) for key, node in of_run.items() if _MARK not in key]
        settled = bool(results) and all(result["final"] for result in results)
        self._results[uid] = time.monotonic() + (_LOOK_AGAIN_S if settled else 0.0), results
        return results


def _result(name: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    sample = metadata.get("sample")
    about = metadata.get("analysis")
    began_s = about.get("began_s") if isinstance(about, Mapping) else None
    return {
        "name": name,
        "n_frames": plain(metadata.get("n_frames")),
        "frames_expected": plain(metadata.get("frames_expected")),
        "final": bool(metadata.get("final")),
        "partial": bool(metadata.get("partial")),
        "sample": str(sample.get("name") or "") if isinstance(sample, Mapping) else str(sample or ""),
        "exit_status": plain(metadata.get("exit_status")),
        "time_s": plain(metadata.get("time")),
        "analysed_s": plain(began_s),
    }


def _row(uid: str, raw: Mapping[str, Any] | None, results: list[dict[str, Any]]) -> dict[str, Any]:
    start = (raw or {}).get("start") or {}
    stop = (raw or {}).get("stop")
    began = start.get("time")
    last_s = max((result["time_s"] or 0.0 for result in results), default=0.0)
    began_s = float(began) if isinstance(began, int | float) else last_s
    sample = start.get("sample")
    name = sample.get("name") if isinstance(sample, Mapping) else sample
    standard = start.get("standard")
    if not name and isinstance(standard, Mapping):
        name = standard.get("name")
    status, text = _status(stop, results, max(last_s, began_s), raw is not None)
    return {
        "uid": uid,
        "title": str(start.get("plan_name") or ""),
        "sample": str(name or next((result["sample"] for result in results), "") or ""),
        "began_s": began_s,
        "status": status,
        "status_text": text,
        "results": results,
    }


def _status(stop: Any, results: list[dict[str, Any]], last_s: float, has_raw: bool) -> tuple[str, str]:
    """Return the kind of state that a run is in, and what to say of it."""
    if not results:
        if stop is not None:
            return "none", "no map"
        return ("running", "running, no map yet") if time.time() - last_s < _LOST_S else ("lost", "cut short")
    done = sum(result["n_frames"] or 0 for result in results)
    expected = sum(result["frames_expected"] or 0 for result in results)
    if not all(result["final"] for result in results):
        if stop is not None or (has_raw and time.time() - last_s > _LOST_S):
            return "lost", f"cut short, {done} of {expected} frames"
        return "running", f"running, {done} of {expected} frames"
    status = str((stop or {}).get("exit_status") or results[0]["exit_status"] or "")
    if status in ("abort", "fail"):
        return "ended", f"{'aborted' if status == 'abort' else 'failed'}, {done} of {expected} frames"
    if any(result["partial"] for result in results):
        return "partial", f"partial, {done} of {expected} frames"
    return "complete", "complete"
