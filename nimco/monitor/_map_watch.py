"""One map of one result, followed while the scan runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks import StoredResult, follow_soc

from ._palettes import palette_of
from ._pictures import (
    ColourRange,
    Histogram,
    binned_preview,
    codes_to_bytes,
    histogram,
    is_coded,
    limits_of,
    plane,
    preview_step,
    sample,
    to_bytes,
)
from ._plain import plain
from ._source import Source
from ._versions import base_name, stored_version, versions_of

_LOOK_S = 2.0
_FIRST_MAP_S = 10.0
_LOOK_AGAIN_S, _MOST_LOOKS = 0.1, 10
_MOST_PICTURES = 4


@dataclass(frozen=True)
class Picture:
    """A map in bytes, with what they stand for."""

    pixels: npt.NDArray[np.uint8] = field(repr=False)
    step: int
    limits: tuple[float, float] | None
    histogram: Histogram | None


class MapState:
    """One state of a map, and its pictures.

    Parameters
    ----------
    values : ndarray, (rows, cols)
        The map.
    name : str
        Name of its variable.
    variable : dict
        What that says of itself.
    about : dict
        What the page is told of the result, plain data.
    """

    def __init__(
        self, values: npt.NDArray[Any], name: str, variable: dict[str, Any], about: dict[str, Any]
    ) -> None:
        self.values = values
        self.name = name
        self.about = about
        self.is_coded = is_coded(variable, values)
        self.palette = "codes" if self.is_coded else palette_of(name, variable)
        self._sample: npt.NDArray[np.float64] | None = None
        self._own: Histogram | None = None
        self._pictures: dict[tuple[ColourRange, bool], Picture] = {}

    def picture(self, wanted: ColourRange, *, preview: bool) -> Picture:
        """Return its picture; for a preview only every few pixels."""
        key = wanted, preview
        if key not in self._pictures:
            made = self._made(wanted, preview)
            while len(self._pictures) >= _MOST_PICTURES:
                self._pictures.pop(next(iter(self._pictures)))
            self._pictures[key] = made
        return self._pictures[key]

    @property
    def preview_step(self) -> int:
        """Every how many pixels are sent first."""
        return preview_step(self.values.shape)

    def _made(self, wanted: ColourRange, preview: bool) -> Picture:
        step = self.preview_step if preview else 1
        values = binned_preview(self.values, step) if step > 1 else self.values
        if self.is_coded:
            return Picture(codes_to_bytes(values), step, None, None)
        if self._sample is None:
            self._sample = sample(self.values)
            self._own = histogram(self._sample)
        assert self._own is not None
        limits = limits_of(self._sample, wanted, self._own.peak)
        return Picture(to_bytes(values, limits), step, limits, self._own)


class MapWatch(Source):
    """Follows one map: pushed by the server while the scan runs, looked after now and then when it is over.

    Parameters
    ----------
    client : tiled client
        The root of the server.
    uid, name, variable : str
        Uid of the run, name of its result (of a former version such as ``Ni_K@1``), and of its variable; an empty one
        stands for the signal.
    """

    def __init__(self, client: Any, uid: str, name: str, variable: str) -> None:
        super().__init__("monitor map")
        self._client, self._uid, self._name, self._variable = client, uid, name, variable
        self._began_s: float | None = None
        self._versions: list[dict[str, Any]] = []
        self.state: MapState | None = None
        self.about: dict[str, Any] | None = None

    def _follow(self) -> None:
        stored = stored_version(self._client, self._uid, self._name)
        self._versions = versions_of(self._client, self._uid, self._name)
        variable = self._wanted(stored)
        if variable is None or stored.attrs.get("final") or base_name(self._name) != self._name:
            self._show(stored, variable, None)
            self._wait_for_change(stored)
            return
        for followed in follow_soc(
            self._client, self._uid, self._name, array=variable, timeout_s=_FIRST_MAP_S, until=self._ended
        ):
            before = stored.attrs.get("n_frames")
            stored.refresh()
            self._show(stored, variable, followed.values)
            self._await_words(stored, before)

    def _await_words(self, stored: StoredResult, before: Any) -> None:
        """Tell what a result says of itself, which is written after its map: not only with the next frame."""
        for _ in range(_MOST_LOOKS):
            if stored.attrs.get("n_frames") != before or self._ended.is_set():
                return
            self._pause(_LOOK_AGAIN_S)
            stored.refresh()
            if stored.attrs.get("n_frames") != before:
                self.about = self._about(stored)
                self._changed()

    def _wanted(self, stored: StoredResult) -> str | None:
        """Return the name of the map to show; None where the result has no maps."""
        maps = _maps_of(stored)
        signal = str(stored.attrs.get("signal"))
        if self._variable in maps:
            return self._variable
        return signal if signal in maps else next(iter(maps), None)

    def _show(self, stored: StoredResult, variable: str | None, values: Any) -> None:
        about = self._about(stored)
        state = None
        if variable is not None:
            taken = plane(np.asarray(stored.read(variable) if values is None else values))
            if taken.ndim == 2 and taken.size:
                state = MapState(taken, variable, stored.variables[variable], about)
        self.state, self.about, self.problem = state, about, ""
        self._changed()

    def _wait_for_change(self, stored: StoredResult) -> None:
        """Return when another analysis has taken the place of what is shown."""
        before = stored.written_by, stored.attrs.get("n_frames"), stored.attrs.get("final")
        while not self._ended.is_set():
            self._pause(_LOOK_S)
            stored.refresh()
            if (stored.written_by, stored.attrs.get("n_frames"), stored.attrs.get("final")) != before:
                return

    def _about(self, stored: StoredResult) -> dict[str, Any]:
        attrs = stored.attrs
        if self._began_s is None:
            self._began_s = _began(self._client, self._uid, attrs)
        history = [
            stored.read(name).tolist() if name in stored.variables else []
            for name in ("history_n_frames", "history_sigma")
        ]
        curves = {
            name: {"values": plain(stored.read(name)), **plain(held)}
            for name, held in stored.variables.items()
            if held["dims"] == ("energy",)
        }
        sample_of = attrs.get("sample")
        return {
            "uid": self._uid,
            "name": self._name,
            "sample": plain(sample_of.get("name") if isinstance(sample_of, Mapping) else sample_of) or "",
            "maps": _maps_of(stored),
            "signal": attrs.get("signal"),
            "sigma_unit": _sigma_unit(stored),
            "curves": curves,
            "history": plain(history),
            "alarms": plain(stored.alarms),
            "versions": plain(self._versions),
            "time_left_s": _time_left_s(attrs, self._began_s),
            **{
                key: plain(attrs.get(key))
                for key in (
                    "technique", "edge", "element", "definition", "method", "pixel_size_nm", "n_frames",
                    "frames_expected", "final", "partial", "exit_status", "warnings", "status_legend", "pixels",
                    "median_soc_sigma", "axis_offset_ev", "axis_offset_sigma_ev", "soc_systematic", "plan_name",
                )
            },
        }  # fmt: skip


def _maps_of(stored: StoredResult) -> dict[str, Any]:
    """Return what may be shown as a picture: every variable of two dimensions or more, the last two in space."""
    return {
        name: plain(about)
        for name, about in stored.variables.items()
        if len(about["dims"]) >= 2 and about.get("role") != "coordinate"
    }


def _sigma_unit(stored: StoredResult) -> str:
    return str(stored.variables.get("history_sigma", {}).get("units") or "")


def _began(client: Any, uid: str, attrs: dict[str, Any]) -> float | None:
    try:
        began = client["raw"][uid].metadata["start"]["time"]
    except (KeyError, TypeError):
        about = attrs.get("analysis")
        began = about.get("began_s") if isinstance(about, Mapping) else None
    return float(began) if isinstance(began, int | float) else None


def _time_left_s(attrs: dict[str, Any], began_s: float | None) -> float | None:
    """Return how long the frames that lack will take at the pace of those that came; None where that is not known."""
    done, expected, last = attrs.get("n_frames"), attrs.get("frames_expected"), attrs.get("time")
    if attrs.get("final") or began_s is None or not done or not expected or not isinstance(last, int | float):
        return None
    took = min(float(last), time.time()) - began_s
    return float(max(took, 0.0) / done * max(expected - done, 0))
