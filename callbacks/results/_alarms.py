"""What is wrong with results while a scan runs: alarms by fixed rules, when each began and when it ended."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

Severity = Literal["note", "warning", "critical"]

_FEWEST_FRAMES = 5
# Of the median incident intensity: less is a lost beam.
_LEAST_I0 = 0.3
_MOST_SATURATED = 0.02
# Of the most pixels that had a value in this run: with fewer the sample has left the field.
_LEAST_PIXELS = 0.5
_LARGEST_PULL, _LEAST_CHANGE = 3.0, 0.02
_MOST_RUNS = 50
_MOST_ENDED = 50


@dataclass(frozen=True)
class Alarm:
    """Something that whoever runs the scan should know now.

    Attributes
    ----------
    kind : str
        ``beam``, ``frame``, ``missing``, ``saturation``, ``drift``, ``axis``, ``light``, ``sample``, ``model``,
        ``dose``, ``delivery`` or ``map`` (any other warning of a map).
    severity : {"note", "warning", "critical"}
        Critical: what is measured from now on is of no use, or may be lost.
    sentence : str
        What is wrong, by which figures.
    remedy : str
        What to do.
    run, edge : str
        Uid of the run, and its edge; empty for what is of no run.
    began_s : float
        Since when, seconds since the epoch.
    ended_s : float or None
        Until when; None while it stands.
    """

    kind: str
    severity: Severity
    sentence: str
    remedy: str
    run: str = ""
    edge: str = ""
    began_s: float = 0.0
    ended_s: float | None = None

    def __str__(self) -> str:
        where = f" (run {self.run[:8]}{f', {self.edge}' if self.edge else ''})" if self.run else ""
        if self.ended_s is not None:
            return f"over: {self.kind}{where}: {self.sentence}"
        return f"{self.severity}: {self.kind}{where}: {self.sentence} {self.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, as it is stored with a result."""
        return asdict(self)


class _Rule(NamedTuple):
    kind: str
    severity: Severity
    words: re.Pattern[str]
    remedy: str


def _rule(kind: str, severity: Severity, words: str, remedy: str) -> _Rule:
    return _Rule(kind, severity, re.compile(words, re.IGNORECASE), remedy)


# What a warning of a map is about; the first that fits counts.
_RULES = (
    _rule(
        "missing",
        "warning",
        r"frames? (is|are) missing|never came|no sample frame",
        "Look at the camera and its files.",
    ),
    _rule("saturation", "warning", r"saturat", "Take shorter exposures or put a filter in."),
    _rule("beam", "warning", r"incident intensity|times the light", "Look at the beam and at the shutter."),
    _rule("drift", "note", r"drift|regist|displace", "Wait for the stage to settle, or keep --register on."),
    _rule(
        "axis",
        "warning",
        r"energy axis|axes of scan",
        "Calibrate with a foil, or fit it: --axis-offset fit.",
    ),
    _rule(
        "sample", "critical", r"no pixel shows an edge|out of the field", "Bring the sample into the field."
    ),
    _rule(
        "light",
        "warning",
        r"stray light|optical depth above",
        "Look at darks and harmonics; take a thinner place.",
    ),
    _rule(
        "frame", "warning", r"left out|does not belong|do not belong", "Take them again if there are many."
    ),
    _rule(
        "model",
        "warning",
        r"reference|phase|mixture|valence",
        "Look at the residual spectrum and the references.",
    ),
)
_OF_DELIVERY = "Look at the server and its disk; nothing has to be taken again."
_OTHER = _Rule("map", "warning", re.compile(""), "Read the warnings with the map.")
_NUMBERS = re.compile(r"[-+±]*\d[\d.,e+-]*")


class _Measured(NamedTuple):
    """State of charge of a place by a run, and that of the run before."""

    run: str
    median: float
    error: float
    before: "_Measured | None"


class AlarmLog:
    """Looks at results, one after the other, and holds which alarms stand and which are over.

    Notes
    -----
    The rules are fixed, and each sentence names its figures. Alarms of a run that is over stay as they were: they are
    those of its map. Of `_MOST_RUNS` runs and more the oldest are forgotten.
    """

    def __init__(self) -> None:
        self._standing: dict[tuple[str, ...], Alarm] = {}
        self._ended: dict[tuple[str, str], list[Alarm]] = {}
        self._most_pixels: dict[tuple[str, str], int] = {}
        self._of_place: dict[tuple[str, ...], _Measured] = {}

    @property
    def standing(self) -> tuple[Alarm, ...]:
        """The alarms that stand now, the oldest first."""
        return tuple(self._standing.values())

    def of(self, run: str, edge: str) -> tuple[Alarm, ...]:
        """Return the alarms of a run at an edge, those that are over first."""
        return *self._ended.get((run, edge), ()), *(
            alarm for key, alarm in self._standing.items() if key[:2] == (run, edge)
        )

    def take(self, result: xr.Dataset, at_s: float, undelivered: Iterable[str] = ()) -> list[Alarm]:
        """Look at a result; return the alarms that end with it, and then those that begin.

        Parameters
        ----------
        result : xarray.Dataset
            Of any technique.
        at_s : float
            When it was, seconds since the epoch.
        undelivered : iterable of str
            What cannot be delivered now, in sentences.
        """
        run, edge = str(result.attrs.get("raw_uid") or ""), str(result.attrs.get("edge") or "")
        now = {_key(alarm): alarm for alarm in self._alarms_of(result, run, edge)}
        for said in undelivered:
            alarm = Alarm("delivery", "critical", said, _OF_DELIVERY)
            now[_key(alarm)] = alarm
        told = []
        for key in [key for key in self._standing if key[:2] in ((run, edge), ("", "")) and key not in now]:
            told.append(replace(self._standing.pop(key), ended_s=at_s))
            of_run = self._ended.setdefault((run, edge), [])
            of_run.append(told[-1])
            del of_run[:-_MOST_ENDED]
        for key, alarm in now.items():
            if key in self._standing:
                # The figures go on changing; when it began does not.
                self._standing[key] = replace(alarm, began_s=self._standing[key].began_s)
            else:
                self._standing[key] = replace(alarm, began_s=at_s)
                told.append(self._standing[key])
        while len(self._standing) > 20 * _MOST_RUNS:
            self._standing.pop(next(iter(self._standing)))
        while len(self._ended) > _MOST_RUNS:
            self._ended.pop(next(iter(self._ended)))
        return told

    def _alarms_of(self, result: xr.Dataset, run: str, edge: str) -> Iterable[Alarm]:
        for said in result.attrs.get("warnings") or ():
            rule = next((rule for rule in _RULES if rule.words.search(said)), _OTHER)
            yield Alarm(rule.kind, rule.severity, f"{said.rstrip('.')}.", rule.remedy, run, edge)
        for kind, severity, said, remedy in (
            *_of_beam(result), *_of_saturation(result), *self._of_sample(result, (run, edge)),
            *self._of_dose(result, run, edge),
        ):  # fmt: skip
            yield Alarm(kind, severity, said, remedy, run, edge)

    def _of_sample(
        self, result: xr.Dataset, key: tuple[str, str]
    ) -> Iterable[tuple[str, Severity, str, str]]:
        pixels = result.attrs.get("pixels")
        if not isinstance(pixels, Mapping):
            return
        n = sum(int(pixels.get(name) or 0) for name in ("OK", "BELOW_RANGE", "ABOVE_RANGE"))
        most = max(self._most_pixels.pop(key, 0), n)
        self._most_pixels[key] = most
        while len(self._most_pixels) > _MOST_RUNS:
            self._most_pixels.pop(next(iter(self._most_pixels)))
        if n < _LEAST_PIXELS * most:
            yield (
                "sample",
                "critical",
                f"Only {n} pixels have a value, of {most} earlier in this scan: the sample may have left the field.",
                "Look at the frames; stop and bring the sample back.",
            )

    def _of_dose(self, result: xr.Dataset, run: str, edge: str) -> Iterable[tuple[str, Severity, str, str]]:
        """Compare with the run before at the same place of the same sample and cycle: what the beam does to it."""
        about = result.attrs
        sample, view = (about.get(name) for name in ("sample", "field_of_view"))
        if not (about.get("final") and isinstance(sample, Mapping) and isinstance(view, Mapping)):
            return
        if not (sample.get("name") and view.get("name")) or about.get("partial"):
            return
        values = result["soc"].values if "soc" in result else np.empty(0)
        values = values[np.isfinite(values)]
        if values.size < 2:
            return
        median = float(np.median(values))
        # By the noise, and what all pixels share: an offset of the axis is no damage.
        shared = about.get("soc_systematic")
        error = float(
            np.hypot(
                1.25 * np.std(values) / np.sqrt(values.size), shared if isinstance(shared, float) else 0.0
            )
        )
        place = (str(sample.get("name")), str(sample.get("cycle")), str(view.get("name")), edge)
        held = self._of_place.pop(place, None)
        # A result that is looked at twice is compared with the same run as before.
        before = held.before if held is not None and held.run == run else held
        self._of_place[place] = _Measured(
            run, median, error, None if before is None else before._replace(before=None)
        )
        while len(self._of_place) > _MOST_RUNS:
            self._of_place.pop(next(iter(self._of_place)))
        if before is None:
            return
        change, sigma = median - before.median, float(np.hypot(error, before.error))
        if abs(change) > max(_LARGEST_PULL * sigma, _LEAST_CHANGE):
            yield (
                "dose",
                "warning",
                f"The state of charge has moved by {change:+.3f} ± {sigma:.3f} since run {before.run[:8]} at this "
                "place: the beam may damage the sample, unless it was cycled meanwhile.",
                "Go to a fresh place, or take fewer or shorter frames.",
            )


def _key(alarm: Alarm) -> tuple[str, ...]:
    # Frames that are left out are told with their energies, which grow in number: what counts is why.
    reason = alarm.sentence.partition("left out: ")[2] or alarm.sentence
    if alarm.kind == "delivery":
        return "", "", alarm.kind
    return alarm.run, alarm.edge, alarm.kind, re.sub(r"(# ?)+", "#", _NUMBERS.sub("#", reason))


def _of_beam(result: xr.Dataset) -> Iterable[tuple[str, Severity, str, str]]:
    i0 = result["frame_i0"].values if "frame_i0" in result else np.empty(0)
    if result.attrs.get("final") or i0.size < _FEWEST_FRAMES or not np.isfinite(i0[-1]):
        return
    usual = float(np.nanmedian(i0))
    if usual > 0 and i0[-1] < _LEAST_I0 * usual:
        yield (
            "beam",
            "critical",
            f"The incident intensity of the last frame is {i0[-1]:.3g}, and {usual:.3g} as a rule: the beam is lost.",
            "Pause until it is back; frames are kept with their noise.",
        )


def _of_saturation(result: xr.Dataset) -> Iterable[tuple[str, Severity, str, str]]:
    pixels: Any = result.attrs.get("pixels")
    if not isinstance(pixels, Mapping):
        return
    saturated, everything = int(pixels.get("SATURATED") or 0), sum(int(n or 0) for n in pixels.values())
    if everything and saturated > _MOST_SATURATED * everything:
        yield (
            "saturation",
            "warning",
            f"{100 * saturated / everything:.0f} % of the pixels are too thick for their light, or at the limit "
            "of the camera.",
            "Take another exposure, or a thinner place.",
        )
