"""Darks, flats and the frames that wait for them: what is needed to turn counts into optical depth."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from callbacks._contract import ScanContract
from callbacks._frames import FrameRecord

ALL_ENERGIES = -1

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReadyFrame:
    """A sample frame with its dark and flat field.

    The optical depth is ``-ln((image - dark) / flat * scale)``.

    Attributes
    ----------
    record : FrameRecord
        The sample frame.
    dark : ndarray, (rows, cols), float32
        Mean dark of the same exposure.
    flat : ndarray, (rows, cols), float32
        Mean open beam at the same energy, its own dark subtracted.
    scale : float
        Exposure times I0 of the flat over those of the frame.
    """

    record: FrameRecord
    dark: FloatImage = field(repr=False)
    flat: FloatImage = field(repr=False)
    scale: float


class FlatFieldBook:
    """Joins sample frames with their darks and flats, whatever the order in which they come.

    A frame waits until the announced number of darks of its exposure and of flats of its energy has come;
    `finish` gives what is left with the nearest ones there are. Frames, flats and darks taken again replace
    what they repeat.

    Parameters
    ----------
    contract : ScanContract
        What the start document announced.
    """

    def __init__(self, contract: ScanContract) -> None:
        self._n_flats = max(contract.n_flats, 1)
        self._n_darks = int(contract.xanes.get("n_darks", 1))
        self._planned_exposures = set(contract.exposure_s)
        self._darks: dict[float, _Frames] = defaultdict(_Frames)
        self._flats: dict[int, _Frames] = defaultdict(_Frames)
        self._waiting: dict[int, list[FrameRecord]] = defaultdict(list)
        self._dark_means: dict[float, FloatImage] = {}
        self._flat_means: dict[int, tuple[FloatImage, float]] = {}
        self._revised: set[int] = set()
        self.warnings: list[str] = []

    @property
    def n_waiting(self) -> int:
        """Number of sample frames that wait for a dark or a flat."""
        return sum(len(frames) for frames in self._waiting.values())

    def add(self, record: FrameRecord) -> list[ReadyFrame]:
        """Take one frame and return the sample frames that are now complete."""
        index = record.energy_index
        if record.stream == "dark":
            if self._darks[record.exposure_s].add(record):
                self._dark_means.pop(record.exposure_s, None)
                self._flat_means.clear()
            return self._release(list(self._waiting))
        if record.stream == "flat":
            if self._flats[index].add(record):
                self._flat_means.pop(index, None)
                if record.attempt:
                    self._revised.add(index)
            return self._release(list(self._waiting) if index == ALL_ENERGIES else [index])
        self._waiting[index].append(record)
        return self._release([index])

    def finish(self) -> list[ReadyFrame]:
        """Return the frames that still wait, with the nearest dark and flat there are; what has none is lost."""
        ready = []
        for index in sorted(self._waiting):
            nearest = self._nearest_flat(index)
            for record in self._waiting[index]:
                if nearest is None:
                    self.warnings.append(
                        f"no flat field was recorded, so the frame at {record.energy_ev:.1f} eV is not in the map"
                    )
                    continue
                if nearest not in (index, ALL_ENERGIES):
                    self.warnings.append(
                        f"the frame at {record.energy_ev:.1f} eV has no flat field of its own;"
                        " that of the nearest energy is used"
                    )
                ready.append(self._join(record, nearest))
        self._waiting.clear()
        return ready

    def join(self, record: FrameRecord) -> ReadyFrame:
        """Join a frame that was complete before with its dark and flat as they are now."""
        flat = self._nearest_flat(record.energy_index)
        assert flat is not None  # it was complete before
        return self._join(record, flat)

    def take_revised(self) -> set[int]:
        """Return the energies whose flats have been taken again since the last call."""
        revised, self._revised = self._revised, set()
        return revised

    def _release(self, indices: Iterable[int]) -> list[ReadyFrame]:
        ready = []
        for index in indices:
            flat = self._complete_flat(index)
            if flat is None:
                continue
            still_waiting = []
            for record in self._waiting.pop(index, ()):
                if self._has_dark(record.exposure_s) and self._has_dark(self._flats[flat].exposure_s):
                    ready.append(self._join(record, flat))
                else:
                    still_waiting.append(record)
            if still_waiting:
                self._waiting[index] = still_waiting
        return ready

    def _complete_flat(self, index: int) -> int | None:
        for candidate in (index, ALL_ENERGIES):
            if candidate in self._flats and len(self._flats[candidate]) >= self._n_flats:
                return candidate
        return None

    def _nearest_flat(self, index: int) -> int | None:
        recorded = [key for key in self._flats if len(self._flats[key])]
        if index in recorded or not recorded:
            return index if index in recorded else None
        if ALL_ENERGIES in recorded:
            return ALL_ENERGIES
        return min(recorded, key=lambda key: abs(key - index))

    def _has_dark(self, exposure_s: float) -> bool:
        if self._n_darks == 0:
            return True
        if exposure_s in self._planned_exposures or exposure_s in self._darks:
            return exposure_s in self._darks and len(self._darks[exposure_s]) >= self._n_darks
        return any(len(frames) >= self._n_darks for frames in self._darks.values())

    def _join(self, record: FrameRecord, flat: int) -> ReadyFrame:
        mean, flat_dose = self._flat_mean(flat)
        return ReadyFrame(
            record=record,
            dark=self._dark_mean(record.exposure_s, record.image.shape),
            flat=mean,
            scale=flat_dose / (record.exposure_s * record.i0),
        )

    def _flat_mean(self, index: int) -> tuple[FloatImage, float]:
        """Return the mean open beam without dark, and its mean exposure times I0."""
        if index not in self._flat_means:
            records = self._flats[index].records
            total = np.zeros(records[0].image.shape, np.float32)
            for record in records:
                total += record.image
                total -= self._dark_mean(record.exposure_s, record.image.shape)
            total /= len(records)
            dose = float(np.mean([record.exposure_s * record.i0 for record in records]))
            self._flat_means[index] = (total, dose)
        return self._flat_means[index]

    def _dark_mean(self, exposure_s: float, shape: tuple[int, ...]) -> FloatImage:
        recorded = [key for key, frames in self._darks.items() if len(frames)]
        if not recorded:
            if self._n_darks:
                self.warnings.append("no dark was recorded; zero is subtracted")
            return np.zeros(shape, np.float32)
        nearest = min(recorded, key=lambda key: abs(key - exposure_s))
        if nearest != exposure_s:
            self.warnings.append(
                f"no dark of {exposure_s:g} s was recorded; that of {nearest:g} s is used instead"
            )
        if nearest not in self._dark_means:
            images = [record.image for record in self._darks[nearest].records]
            self._dark_means[nearest] = np.mean(images, axis=0, dtype=np.float32)
        return self._dark_means[nearest]


class _Frames:
    """Frames that are averaged, each slot with its latest attempt."""

    def __init__(self) -> None:
        self._by_slot: dict[tuple[str, int, int], list[FrameRecord]] = {}

    def __len__(self) -> int:
        return sum(len(records) for records in self._by_slot.values())

    @property
    def records(self) -> list[FrameRecord]:
        return [record for records in self._by_slot.values() for record in records]

    @property
    def exposure_s(self) -> float:
        return self.records[0].exposure_s

    def add(self, record: FrameRecord) -> bool:
        """Keep a frame; False where a later attempt at the same slot is here already."""
        kept = self._by_slot.get(record.slot)
        if kept is None or record.attempt > kept[0].attempt:
            self._by_slot[record.slot] = [record]
        elif record.attempt == kept[0].attempt:
            # A recorder that does not number its frames: each is one more.
            kept.append(record)
        else:
            return False
        return True
