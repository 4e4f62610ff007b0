"""Spectra of a detector of several elements: dead time of each, energy scale of each, and their sum."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from callbacks.documents import FrameLoss, LeftOut, Reading, Slot
from edge_fitting import DetectorResponse, EdgeFittingError, calibrate_spectrum

from ._reducer import Item, Reduced, Retraction

Array = npt.NDArray[np.float64]

# Counts of an element from which its energy scale is found.
_ENOUGH = 20_000.0
# An element that was dead for more of the time than this has lost what cannot be corrected.
_MOST_DEAD = 0.7
# Of what the others count; less is a dead element.
_LEAST_SHARE = 0.02
_NO_SCALE = "has no energy scale: it is left out"


class McaElements:
    """Reducer that corrects each detector element for its dead time, puts all on one energy scale, and adds them.

    Readings are held back until every element has counts enough for its energy scale, or the run is over.

    Parameters
    ----------
    elements : sequence of str
        What is looked for.
    excitation_ev : float
        Highest energy of the beam.
    nominal : sequence of DetectorResponse or None
        What is known of the scale of each element; None for one without.
    angle_deg : float
        Angle between the beam and the way to the detector.
    left_out : LeftOut
        Where readings are noted that cannot be used.

    Attributes
    ----------
    common : DetectorResponse
        The energy scale of the sums.
    """

    is_provisional = False

    def __init__(
        self,
        elements: Sequence[str],
        excitation_ev: float,
        nominal: Sequence[DetectorResponse | None],
        angle_deg: float,
        left_out: LeftOut,
    ) -> None:
        self._elements, self._excitation_ev = list(elements), excitation_ev
        self._nominal, self._angle_deg = list(nominal), angle_deg
        self._left_out = left_out
        self._held: dict[Slot, Reading] = {}
        self._given: dict[Slot, Reduced] = {}
        self._sums: Array | None = None
        self._found: list[DetectorResponse | None] | None = None
        self._said: dict[str, None] = {}
        self._live_lacks = 0
        known = [one for one in nominal if one is not None]
        self.common = common_scale(known)

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the results should know."""
        said = list(self._said)
        if self._live_lacks:
            said.append(
                f"{self._live_lacks} readings do not say how long the detector was live: they are not corrected for "
                "dead time"
            )
        return said

    @property
    def waiting(self) -> frozenset[Slot]:
        """Slots that are held back."""
        return frozenset(self._held)

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if not isinstance(item, Reading):
            yield item
            return
        if item.stream != "primary":
            return
        before = self._held.get(item.slot) or self._given.get(item.slot)
        if before is not None and before.label.attempt >= item.attempt:
            return
        spectra = self._spectra(item)
        if spectra is None:
            yield self._refuse(item)
            return
        counted = spectra.sum(axis=0, dtype=np.float64)
        self._sums = counted if self._sums is None else self._sums + counted
        if self._found is not None:
            yield from self._give(item)
            return
        self._held[item.slot] = item
        live = self._sums.sum(axis=1)
        if live[live > _LEAST_SHARE * live.max()].min() >= _ENOUGH:
            yield from self._release()

    def finish(self) -> Iterator[Item]:
        """Return what is held back: the scales are as good as they get."""
        yield from self._release()

    def reopen(self) -> None:
        """Take further readings, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of everything."""
        self._held.clear()
        self._given.clear()

    def _spectra(self, reading: Reading) -> npt.NDArray[Any] | None:
        """Return counts, shape (points, elements, channels); None where they are not those of the contract."""
        spectra = np.asarray(reading.channels["mca"])
        if spectra.ndim == 2:
            spectra = spectra[None]
        return spectra if spectra.ndim == 3 and spectra.shape[1] == len(self._nominal) else None

    def _refuse(self, reading: Reading) -> FrameLoss:
        shape = np.asarray(reading.channels["mca"]).shape
        reason = (
            f"its spectra have the shape {shape} where {len(self._nominal)} detector elements were announced"
        )
        loss = FrameLoss(reading.slot, reading.attempt, reading.energy_ev, reading.exposure_s, reason)
        self._left_out.add(loss)
        return loss

    def _release(self) -> Iterator[Item]:
        if self._sums is None:
            return
        if self._found is None:
            self._found = self._scales(self._sums)
        held, self._held = self._held, {}
        for reading in held.values():
            yield from self._give(reading)

    def _scales(self, sums: Array) -> list[DetectorResponse | None]:
        """Find the energy scale of each element; None for one that is not used."""
        total = sums.sum(axis=1)
        found: list[DetectorResponse | None] = []
        for number, (nominal, spectrum) in enumerate(zip(self._nominal, sums, strict=True)):
            name = f"detector element {number + 1}"
            if total[number] <= _LEAST_SHARE * np.median(total):
                self._said[f"{name} gives next to nothing: it is left out"] = None
                found.append(None)
            elif nominal is None:
                self._said[f"{name} {_NO_SCALE}"] = None
                found.append(None)
            else:
                found.append(self._scale(name, spectrum, nominal))
        return found

    def _scale(self, name: str, spectrum: Array, nominal: DetectorResponse) -> DetectorResponse:
        try:
            fit = calibrate_spectrum(
                spectrum, self._elements, self._excitation_ev, nominal=nominal, angle_deg=self._angle_deg
            )
        except EdgeFittingError as error:
            self._said[f"{name}: {str(error).rstrip('.')}: its energy scale is taken as given"] = None
            return nominal
        return fit.model.response

    def _give(self, reading: Reading) -> Iterator[Item]:
        before = self._given.get(reading.slot)
        if before is not None:
            yield Retraction(before)
        spectra = self._spectra(reading)
        assert spectra is not None
        assert self._found is not None
        factor, saturated = self._dead_time(reading, spectra.shape[:2])
        used = [number for number, response in enumerate(self._found) if response is not None]
        values = np.zeros((spectra.shape[0], spectra.shape[2]))
        variance = np.zeros(spectra.shape[0])
        for number in used:
            response = self._found[number]
            assert response is not None
            corrected = spectra[:, number] * factor[:, number, None]
            values += on_scale(corrected, response, self.common)
            variance += factor[:, number] * corrected.sum(axis=1)
        total = values.sum(axis=1)
        i0 = np.asarray(reading.channels.get("line_i0", np.full(spectra.shape[0], reading.i0)), np.float64)
        reduced = Reduced(
            reading.label,
            reading.energy_ev,
            values.astype(np.float32),
            time_s=reading.time_s,
            notes={
                "variance_factor": np.where(total > 0, variance / np.maximum(total, 1e-9), 1.0),
                "i0": i0,
                "saturated": saturated,
                "exposure_s": reading.exposure_s,
            },
        )
        self._given[reading.slot] = reduced
        yield reduced

    def _dead_time(self, reading: Reading, shape: tuple[int, ...]) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return what corrects each element for dead time, and which points are beyond correction."""
        live = np.asarray(reading.channels.get("live_s", np.nan), np.float64)
        real = np.asarray(reading.channels.get("real_s", reading.exposure_s), np.float64)
        live, real = (np.broadcast_to(one, shape) for one in (live, real))
        good = np.isfinite(live) & np.isfinite(real) & (live > 0) & (real > 0)
        self._live_lacks += int(not good.all())
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(good, np.maximum(real / live, 1.0), 1.0)
        saturated = np.asarray((factor > 1.0 / (1.0 - _MOST_DEAD)).any(axis=1), bool)
        if saturated.any():
            self._said[f"the detector is saturated (dead for more than {_MOST_DEAD:.0%} of the time): such points are "
                       "left out; use fewer photons or a detector farther away"] = None  # fmt: skip
        return factor, saturated


def common_scale(known: Sequence[DetectorResponse]) -> DetectorResponse:
    """Return the energy scale on which spectra of several elements are added: their mean gain, from 0 eV."""
    gain = float(np.mean([one.gain_ev for one in known])) if known else 10.0
    return DetectorResponse(gain, 0.0)


def on_scale(counts: Array, response: DetectorResponse, common: DetectorResponse) -> Array:
    """Return counts of channels of one energy scale in those of another, each shared among the channels it falls into.

    Parameters
    ----------
    counts : ndarray, shape (points, channels)
        Counts.
    response, common : DetectorResponse
        The scale they have, and the one they get.
    """
    n = counts.shape[1]
    bounds = common.energy_ev(np.arange(n + 1) - 0.5)
    at = np.clip((bounds - response.offset_ev) / response.gain_ev + 0.5, 0.0, n)
    below = np.minimum(at.astype(np.int64), n - 1)
    part = at - below
    cumulated = np.concatenate([np.zeros((counts.shape[0], 1)), np.cumsum(counts, axis=1)], axis=1)
    reached = cumulated[:, below] + part * counts[:, below]
    return np.asarray(np.diff(reached, axis=1))
