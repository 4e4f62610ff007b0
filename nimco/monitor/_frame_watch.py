"""The frames of a run, read from Tiled once and kept within a bound, while the scan runs and afterwards."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks import CallbackError, DepthFrames, ReadingError, StoredResult, documents_of

from ._pictures import to_bytes
from ._source import Source

MOST_FRAME_BYTES = 256 * 2**20
"""Memory that the frames of one run may take; of larger ones, neighbouring pixels are averaged."""
THUMBNAIL = 48
_POLL_S = 0.4
_UPDATE_S = 0.25


class FrameWatch(Source):
    """Reads the frames of a run, and those of the interrupted runs that it goes on with.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    uid, name : str
        Uid of the run, and name of its result.

    Attributes
    ----------
    frames : DepthFrames
        What is read so far.
    is_read : bool
        Whether the run is over and all its frames are read.
    """

    def __init__(self, client: Any, uid: str, name: str) -> None:
        super().__init__("monitor frames")
        self._client, self._uid, self._name = client, uid, name
        self.frames = DepthFrames(most_bytes=MOST_FRAME_BYTES)
        self.is_read = False

    def _follow(self) -> None:
        if self.is_read:
            self._pause(_POLL_S)
            return
        uids, options = self._analysed()
        self.frames = frames = DepthFrames(
            register=options.get("register", "auto"),
            left_out_ev=[float(energy) for energy in options.get("left_out_ev") or ()],
            most_bytes=MOST_FRAME_BYTES,
        )
        try:
            for uid in uids:
                self._read(uid, frames)
        finally:
            frames.close()
        if not self._ended.is_set():
            self.is_read = True
            self._changed()

    def _analysed(self) -> tuple[list[str], dict[str, Any]]:
        """Return the runs whose frames are in the result, and what was asked for of its analysis."""
        try:
            attrs = StoredResult(self._client, self._uid, self._name).attrs
        except ReadingError:
            return [self._uid], {}
        about = attrs.get("analysis")
        options = about.get("options") if isinstance(about, Mapping) else None
        uids = [str(uid) for uid in attrs.get("raw_uids") or [self._uid]]
        return uids, dict(options or {})

    def _read(self, uid: str, frames: DepthFrames) -> None:
        """Read a run to its end."""
        known: set[tuple[str, int, float]] = set()
        told: set[str] = set()
        changed_s = 0.0
        while not self._ended.is_set():
            try:
                run = self._client["raw"][uid]
            except KeyError:
                self._said(f"the frames of run {uid[:8]} are not on this server (yet)")
                self._pause(_POLL_S * 5)
                continue
            is_over = bool(run.metadata.get("stop"))
            is_new = False
            for name, doc in documents_of(run, skip=known.__contains__):
                if self._ended.is_set():
                    return
                if name == "event":
                    known.add((str(doc["descriptor"]), int(doc["seq_num"]), float(doc["time"])))
                elif name != "stop":
                    key = f"{name}/{doc.get('uid')}"
                    if key in told:
                        continue
                    told.add(key)
                is_new = self._taken(frames, name, doc) or is_new
                if is_new and time.monotonic() - changed_s > _UPDATE_S:
                    changed_s, is_new = time.monotonic(), False
                    self._changed()
            if self.problem:
                self._said("")
            if is_new:
                changed_s = time.monotonic()
                self._changed()
            if is_over:
                return
            self._pause(_POLL_S)

    def _taken(self, frames: DepthFrames, name: str, doc: dict[str, Any]) -> bool:
        try:
            return frames(name, doc)
        except CallbackError:
            if name == "start":
                raise
            return True  # a frame that is left out, which its table says

    def table(self) -> list[dict[str, Any]]:
        """Return a line per frame: those that are there, and those that are left out with the reason."""
        rows = [
            {
                "key": _key(frame.slot, frame.attempt),
                "energy_ev": frame.energy_ev,
                "repeat": frame.slot[2],
                "reason": "",
            }
            for frame in self.frames.frames
        ]
        there = {row["key"].rpartition(".")[0] for row in rows}
        rows += [
            {
                "key": "",
                "energy_ev": loss.energy_ev,
                "repeat": loss.slot[2],
                "reason": f"{_STREAMS.get(loss.slot[0], loss.slot[0])}: {loss.reason}",
            }
            for loss in self.frames.losses
            if loss.slot[0] != "primary" or _key(loss.slot, 0).rpartition(".")[0] not in there
        ]
        return sorted(rows, key=lambda row: (row["energy_ev"], row["repeat"]))

    def thumbnail(self, key: str) -> npt.NDArray[np.uint8] | None:
        """Return a small picture of a frame, None where there is no such frame (any more)."""
        for frame in self.frames.frames:
            if _key(frame.slot, frame.attempt) == key:
                step = max(1, -(-max(frame.depth.shape) // THUMBNAIL))
                small = frame.depth[step // 2 :: step, step // 2 :: step]
                finite = small[np.isfinite(small)]
                if not finite.size:
                    return np.zeros(small.shape, np.uint8)
                low, high = (float(value) for value in np.percentile(finite, (1, 99)))
                return to_bytes(small, (low, high if high > low else low + 1.0))
        return None


_STREAMS = {"dark": "dark frame", "flat": "flat field", "primary": "frame"}


def _key(slot: tuple[Any, ...], attempt: int) -> str:
    return "-".join(str(part) for part in slot) + f".{attempt}"
