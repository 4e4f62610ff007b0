"""Darks, flats and the frames that wait for them: what is needed to turn counts into optical depth."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from callbacks.documents import (
    FrameLoss,
    LeftOut,
    Reading,
    SaturationWatch,
    Slot,
    energies_text,
)
from callbacks.errors import SpoolError
from scan_contract import ALL_ENERGIES, FullFieldContract

from ._corrected_frame import CorrectedFrame, Correction, FloatImage
from ._image_store import HeldFrame, ImageStore
from ._light import LEAST_OF_BRIGHTEST, open_beam_light
from ._mean_frames import MeanFrames, dose_of
from ._taken_frames import TakenFrames

# A dark that lies above the others by more than this part of their level, and so many of their standard
# deviations, holds light.
_DARK_DRIFT = 0.5
_DARK_SPREADS = 5.0
# Of two flats whose light per incident intensity differs, nobody can say which one is wrong.
_FEW_FLATS = 3
_LOST = "it cannot be read back from the disk"


class DarksAndFlats:
    """Joins sample frames with their darks and flats, whatever the order in which they come.

    A frame waits until the announced number of darks of its exposure and of flats of its energy has come;
    `finish` gives what is left with the nearest ones there are. Frames, flats and darks taken again replace
    what they repeat. Flats without light and darks with light are left out.

    Parameters
    ----------
    contract : FullFieldContract
        What the start document announced.
    store : ImageStore, optional
        What holds the frames; by default one of its own.
    left_out : LeftOut, optional
        Where darks and flats that are left out are noted; by default an account of its own.
    saturation : SaturationWatch, optional
        Knows the limit of the camera; by default that of the type of the frames only.
    """

    def __init__(
        self,
        contract: FullFieldContract,
        store: ImageStore | None = None,
        *,
        left_out: LeftOut | None = None,
        saturation: SaturationWatch | None = None,
    ) -> None:
        self.left_out = LeftOut() if left_out is None else left_out
        self._saturation = SaturationWatch() if saturation is None else saturation
        self._store = ImageStore() if store is None else store
        self._n_flats = max(contract.n_flats, 1)
        self._n_darks = contract.n_darks
        self._planned_exposures = set(contract.exposure_s)
        self._darks: dict[float, TakenFrames] = defaultdict(TakenFrames)
        self._flats: dict[int, TakenFrames] = defaultdict(TakenFrames)
        self._waiting: dict[int, list[HeldFrame]] = defaultdict(list)
        self._means = MeanFrames()
        self._sorted_out_darks: set[float] = set()
        self._corrected = False
        self._revised: set[int] = set()
        self._without_own_flat: dict[int, Reading] = {}
        self._other_darks: dict[float, float] = {}
        self._brightest = 0.0
        self._lights_of_dose: list[float] = []
        self._finished = False

    @property
    def n_waiting(self) -> int:
        """Number of sample frames that wait for a dark or a flat."""
        return sum(len(frames) for frames in self._waiting.values())

    @property
    def lacks_flats(self) -> bool:
        """Whether a frame was joined with the flat of another energy because its own was never taken."""
        return any(not self._flats[index].n_came for index in self._without_own_flat)

    @property
    def waiting_slots(self) -> set[Slot]:
        """Slots of the sample frames that wait for a dark or a flat."""
        return {held.reading.slot for frames in self._waiting.values() for held in frames}

    @property
    def warnings(self) -> list[str]:
        """What a reader of the maps should know, as things are now."""
        said = []
        if self._finished and self.n_waiting:
            energies = sorted(
                {held.reading.energy_ev for frames in self._waiting.values() for held in frames}
            )
            one = self.n_waiting == 1
            said.append(
                f"{'the frame' if one else 'frames'} at {energies_text(energies)} "
                f"{'is' if one else 'are'} not in the map: no flat field was recorded that could be used"
            )
        energies = sorted(
            {held.energy_ev for held in self._without_own_flat.values() if held.slot not in self.left_out}
        )
        if energies:
            many = len(energies) > 1
            said.append(
                f"the frame{'s' if many else ''} at {energies_text(energies)} {'have' if many else 'has'} no flat "
                f"field of {'their' if many else 'its'} own; that of the nearest energy is used"
            )
        if self._n_darks and self._corrected and not self._usable_darks():
            said.append("no dark was recorded that could be used; zero is subtracted")
        for exposure_s, nearest_s in self._other_darks.items():
            said.append(f"no dark of {exposure_s:g} s was recorded; that of {nearest_s:g} s is used instead")
        return said

    def hold(self, reading: Reading) -> HeldFrame:
        """Hold a frame, for `add`."""
        return self._store.hold(reading)

    def light(self, reading: Reading) -> FloatImage:
        """Return the counts of a frame above the dark that there is by now."""
        dark = self._dark_of(reading.exposure_s, reading.image.shape)
        return np.subtract(reading.image, dark, dtype=np.float32)

    def forget_flats(self) -> None:
        """Average flats anew: other pixels of them are known to stick out."""
        self._means.forget_flats()

    def add(self, reading: Reading, held: HeldFrame | None = None) -> Iterator[CorrectedFrame]:
        """Take one frame and return the sample frames that are now complete."""
        index = reading.energy_index
        held = self._store.hold(reading) if held is None else held
        if reading.stream == "dark":
            again = reading.attempt > 0 or self._darks[reading.exposure_s].was_refused(reading.slot)
            if self._darks[reading.exposure_s].add(held):
                self._forget_dark(reading.exposure_s)
                if again:
                    self._revised.add(ALL_ENERGIES)
            return self._release(list(self._waiting))
        if reading.stream == "flat":
            again = reading.attempt > 0 or self._flats[index].was_refused(reading.slot)
            if self._flats[index].add(held) and (again or index in self._without_own_flat):
                self._without_own_flat.pop(index, None)
                self._revised.add(index)
            return self._release(list(self._waiting) if index == ALL_ENERGIES else [index])
        self._waiting[index].append(held)
        return self._release([index])

    def refuse(self, loss: FrameLoss) -> Iterator[CorrectedFrame]:
        """Do not wait for a dark or flat that cannot be used; return the sample frames that waited for it."""
        stream, index = loss.slot[:2]
        if stream == "dark":
            self._darks[loss.exposure_s].refuse(loss.slot)
            return self._release(list(self._waiting))
        if stream == "flat":
            self._flats[index].refuse(loss.slot)
            return self._release(list(self._waiting) if index == ALL_ENERGIES else [index])
        return iter(())

    def finish(self) -> Iterator[CorrectedFrame]:
        """Yield the frames that still wait, with the nearest dark and flat there are.

        What has none goes on waiting: a run that resumes this one may bring it.
        """
        self._finished = True
        for index in self._flats:
            self._sort_out_flats(index)
        for index in sorted(self._waiting):
            nearest = self._nearest_flat(index)
            if nearest is None:
                continue
            for held in self._waiting.pop(index):
                if nearest not in (index, ALL_ENERGIES):
                    self._without_own_flat[index] = held.reading
                if (frame := self._join(held, nearest)) is not None:
                    yield frame

    def reopen(self) -> None:
        """Take further frames after `finish`, of a run that resumes the one that ended."""
        self._finished = False

    def close(self) -> None:
        """Let go of all frames."""
        self._darks.clear()
        self._flats.clear()
        self._waiting.clear()
        self._means.clear()
        self._store.close()

    def current(self, held: HeldFrame) -> Correction | None:
        """Return what corrects a frame as things are now; None without a flat."""
        index = held.reading.energy_index
        for own in (index, ALL_ENERGIES):
            if own in self._flats:
                self._sort_out_flats(own)
        flat = self._nearest_flat(index)
        if flat is None:
            return None
        if flat not in (index, ALL_ENERGIES):
            self._without_own_flat[index] = held.reading
        return self._correction(held, flat)

    def correct_again(self, held: HeldFrame) -> CorrectedFrame | None:
        """Correct a frame as things are now; None without a flat, or where the frame cannot be read back."""
        while (correction := self.current(held)) is not None:
            try:
                return self.correct(correction)
            except SpoolError:
                self._leave_out_lost(correction.frames)
                if held.is_lost:
                    return None
        return None

    def correct(self, correction: Correction) -> CorrectedFrame:
        """Correct a frame with certain darks and flats, whether or not they are those of now.

        Raises
        ------
        SpoolError
            One of the frames that are needed cannot be read back from the disk.
        """
        reading = correction.held.load()
        mean = self._means.flat(correction)
        self._corrected = True
        return CorrectedFrame(
            reading=reading,
            correction=correction,
            dark=self._means.dark(correction.darks, reading.image.shape),
            flat=mean.image,
            scale=mean.dose / dose_of(reading),
            saturated_flat=mean.saturated,
            flat_spikes=mean.spikes,
        )

    def take_revised(self) -> set[int]:
        """Return the energies whose flats have been taken again since the last call."""
        revised, self._revised = self._revised, set()
        return revised

    def _release(self, indices: Iterable[int]) -> Iterator[CorrectedFrame]:
        for index in indices:
            flat = self._complete_flat(index)
            if flat is None:
                continue
            waiting = self._waiting.pop(index, [])
            for held in waiting:
                if not self._has_dark(held.reading.exposure_s) or not self._has_dark(
                    self._flats[flat].exposure_s
                ):
                    self._waiting[index].append(held)
                elif self._sort_out_flats(flat):
                    if (frame := self._join(held, flat)) is not None:
                        yield frame
                else:
                    self._waiting[index].append(held)

    def _complete_flat(self, index: int) -> int | None:
        for candidate in (index, ALL_ENERGIES):
            flats = self._flats.get(candidate)
            if flats is not None and flats.held and flats.n_came >= self._n_flats:
                return candidate
        return None

    def _nearest_flat(self, index: int) -> int | None:
        recorded = [key for key, flats in self._flats.items() if flats.held]
        if index in recorded or not recorded:
            return index if index in recorded else None
        if ALL_ENERGIES in recorded:
            return ALL_ENERGIES
        return min(recorded, key=lambda key: abs(key - index))

    def _sort_out_flats(self, index: int) -> bool:
        """Leave out flats without light, or not with what their I0 says; return whether any is left."""
        flats = self._flats[index]
        for held in flats.held:
            if held.light is None:
                try:
                    reading = held.load()
                except SpoolError:
                    self._leave_out_lost([held])
                    continue
                dark = self._dark_of(reading.exposure_s, reading.image.shape)
                held.light = open_beam_light(reading.image, dark) / reading.exposure_s
                if held.light > 0:
                    self._brightest = max(self._brightest, held.light)
                    insort(self._lights_of_dose, _light_of_dose(held))
        lights = self._lights_of_dose
        brightest_dose = lights[-1] if lights else 0.0
        usual = lights[len(lights) // 2] if len(lights) >= _FEW_FLATS else None
        for held in flats.held:
            of_dose = _light_of_dose(held)
            if (
                held.light or 0.0
            ) <= LEAST_OF_BRIGHTEST * self._brightest and of_dose <= LEAST_OF_BRIGHTEST * brightest_dose:
                reason = "no light above the dark"
            elif usual is not None and not LEAST_OF_BRIGHTEST < of_dose / usual < 1 / LEAST_OF_BRIGHTEST:
                reason = f"an incident intensity of {held.reading.i0:.3g}, which its light does not show"
            else:
                continue
            flats.reject(held)
            if self._finished:
                self._revised.add(index)
            self._leave_out(held, reason)
        return bool(flats.held)

    def _sort_out_darks(self, exposure_s: float) -> None:
        """Leave out darks with light, and those that are no frames but zeros."""
        darks = self._darks[exposure_s]
        if len(darks.held) < 2:
            return
        levels = {}
        for held in darks.held:
            try:
                values = held.load().image.astype(np.float64)
            except SpoolError:
                self._leave_out_lost([held])
                continue
            values = values[np.isfinite(values)]
            levels[held] = (float(values.mean()), float(values.std())) if values.size else (np.nan, 0.0)
        real = [level for level in levels.values() if level != (0.0, 0.0) and np.isfinite(level[0])]
        if not real:
            return
        # Light only adds; of two, the darker one is the dark.
        ranked = sorted(real)
        middle, spread = ranked[0] if len(ranked) == 2 else ranked[(len(ranked) - 1) // 2]
        allowed = _DARK_DRIFT * max(abs(middle), 1.0) + _DARK_SPREADS * spread
        for held, (level, width) in levels.items():
            reason = None
            empty = (level, width) == (0.0, 0.0) and middle > _DARK_SPREADS * spread
            if empty or not np.isfinite(level):
                reason = "no counts"
            elif level - middle > allowed:
                reason = "light in it: the shutter was open"
            if reason is not None:
                darks.reject(held)
                self._leave_out(held, reason)

    def _leave_out(self, held: HeldFrame, reason: str) -> None:
        reading = held.reading
        self.left_out.add(
            FrameLoss(reading.slot, reading.attempt, reading.energy_ev, reading.exposure_s, reason)
        )

    def _forget_dark(self, exposure_s: float) -> None:
        self._sorted_out_darks.discard(exposure_s)
        self._brightest = 0.0
        self._lights_of_dose.clear()
        for flats in self._flats.values():
            flats.check_again()

    def _has_dark(self, exposure_s: float) -> bool:
        if self._n_darks == 0:
            return True
        if exposure_s in self._planned_exposures or exposure_s in self._darks:
            return exposure_s in self._darks and self._darks[exposure_s].n_came >= self._n_darks
        return any(frames.n_came >= self._n_darks for frames in self._darks.values())

    def _usable_darks(self) -> list[float]:
        return [key for key, frames in self._darks.items() if frames.held]

    def _join(self, held: HeldFrame, flat: int) -> CorrectedFrame | None:
        """Join a frame with its dark and flat; None where it cannot be read back, or has to wait for another flat."""
        correction = self._correction(held, flat)
        try:
            return self.correct(correction)
        except SpoolError:
            self._leave_out_lost(correction.frames)
        if held.is_lost:
            return None
        frame = self.correct_again(held)
        if frame is None and not held.is_lost:
            self._waiting[held.reading.energy_index].append(held)
        return frame

    def _leave_out_lost(self, frames: Iterable[HeldFrame]) -> None:
        for held in frames:
            if held.is_lost:
                self._leave_out(held, _LOST)

    def _dark_of(self, exposure_s: float, shape: tuple[int, ...]) -> FloatImage:
        """Return the mean dark of an exposure, without those of its frames that cannot be read back."""
        while True:
            darks = self._darks_of(exposure_s)
            try:
                return self._means.dark(darks, shape)
            except SpoolError:
                self._leave_out_lost(darks)

    def _correction(self, held: HeldFrame, flat: int) -> Correction:
        flats = tuple(self._flats[flat].held)
        return Correction(
            held=held,
            darks=self._darks_of(held.reading.exposure_s),
            flats=flats,
            flat_darks=tuple(self._darks_of(one.reading.exposure_s) for one in flats),
            limit=self._limit(held),
            flat_limits=tuple(self._limit(one) for one in flats),
        )

    def _limit(self, held: HeldFrame) -> float:
        return self._saturation.limit(held.dtype, held.reading.exposure_s)

    def _darks_of(self, exposure_s: float) -> tuple[HeldFrame, ...]:
        """Return the darks that are averaged for an exposure; none where nothing was recorded that can be used."""
        recorded = self._usable_darks()
        if not recorded:
            return ()
        nearest = min(recorded, key=lambda key: abs(key - exposure_s))
        self._other_darks.pop(exposure_s, None)
        if nearest != exposure_s:
            self._other_darks[exposure_s] = nearest
        if nearest not in self._sorted_out_darks:
            self._sort_out_darks(nearest)
            self._sorted_out_darks.add(nearest)
        return tuple(self._darks[nearest].held) or self._darks_of(exposure_s)


def _light_of_dose(held: HeldFrame) -> float:
    """Return the counts of a flat above its dark over its exposure and incident intensity."""
    return (held.light or 0.0) / abs(held.reading.i0)
