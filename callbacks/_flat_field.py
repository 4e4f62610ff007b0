"""Darks, flats and the frames that wait for them: what is needed to turn counts into optical depth."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from callbacks._contract import ScanContract
from callbacks._frames import FrameRecord
from callbacks._image_store import HeldFrame, ImageStore

ALL_ENERGIES = -1

_KEPT_FLAT_MEANS = 4

FloatImage = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ReadyFrame:
    """A sample frame with its dark and flat field.

    The optical depth is ``-ln((image - dark) / flat * scale)``.

    Attributes
    ----------
    record : FrameRecord
        The sample frame.
    held : HeldFrame
        The same as the store holds it.
    dark : ndarray, (rows, cols), float32
        Mean dark of the same exposure.
    flat : ndarray, (rows, cols), float32
        Mean open beam at the same energy, its own dark subtracted.
    scale : float
        Exposure times I0 of the flat over those of the frame.
    """

    record: FrameRecord
    held: HeldFrame = field(repr=False)
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
    store : ImageStore, optional
        What holds the frames; by default one of its own.
    """

    def __init__(self, contract: ScanContract, store: ImageStore | None = None) -> None:
        self._store = ImageStore() if store is None else store
        self._n_flats = max(contract.n_flats, 1)
        self._n_darks = int(contract.xanes.get("n_darks", 1))
        self._planned_exposures = set(contract.exposure_s)
        self._darks: dict[float, _Frames] = defaultdict(_Frames)
        self._flats: dict[int, _Frames] = defaultdict(_Frames)
        self._waiting: dict[int, list[HeldFrame]] = defaultdict(list)
        self._dark_means: dict[float, FloatImage] = {}
        self._flat_means: OrderedDict[int, tuple[FloatImage, float]] = OrderedDict()
        self._revised: set[int] = set()
        self._without_own_flat: set[int] = set()
        self.warnings: list[str] = []

    @property
    def n_waiting(self) -> int:
        """Number of sample frames that wait for a dark or a flat."""
        return sum(len(frames) for frames in self._waiting.values())

    def add(self, record: FrameRecord) -> Iterator[ReadyFrame]:
        """Take one frame and return the sample frames that are now complete."""
        index = record.energy_index
        held = self._store.hold(record)
        if record.stream == "dark":
            if self._darks[record.exposure_s].add(held):
                self._dark_means.pop(record.exposure_s, None)
                self._flat_means.clear()
            return self._release(list(self._waiting))
        if record.stream == "flat":
            if self._flats[index].add(held):
                self._flat_means.pop(index, None)
                if record.attempt or index in self._without_own_flat:
                    self._without_own_flat.discard(index)
                    self._revised.add(index)
            return self._release(list(self._waiting) if index == ALL_ENERGIES else [index])
        self._waiting[index].append(held)
        return self._release([index])

    def finish(self) -> Iterator[ReadyFrame]:
        """Yield the frames that still wait, with the nearest dark and flat there are; what has none is lost."""
        for index in sorted(self._waiting):
            nearest = self._nearest_flat(index)
            for held in self._waiting[index]:
                energy_ev = held.record.energy_ev
                if nearest is None:
                    self.warnings.append(
                        f"no flat field was recorded, so the frame at {energy_ev:.1f} eV is not in the map"
                    )
                    continue
                if nearest not in (index, ALL_ENERGIES):
                    self._without_own_flat.add(index)
                    self.warnings.append(
                        f"the frame at {energy_ev:.1f} eV has no flat field of its own;"
                        " that of the nearest energy is used"
                    )
                yield self._join(held, nearest)
        self._waiting.clear()

    def close(self) -> None:
        """Let go of all frames."""
        for frames in (self._darks, self._flats, self._waiting, self._dark_means, self._flat_means):
            frames.clear()
        self._store.close()

    def join(self, held: HeldFrame) -> ReadyFrame:
        """Join a frame that was complete before with its dark and flat as they are now."""
        flat = self._nearest_flat(held.record.energy_index)
        assert flat is not None  # it was complete before
        return self._join(held, flat)

    def take_revised(self) -> set[int]:
        """Return the energies whose flats have been taken again since the last call."""
        revised, self._revised = self._revised, set()
        return revised

    def _release(self, indices: Iterable[int]) -> Iterator[ReadyFrame]:
        for index in indices:
            flat = self._complete_flat(index)
            if flat is None:
                continue
            waiting = self._waiting.pop(index, [])
            for held in waiting:
                if self._has_dark(held.record.exposure_s) and self._has_dark(self._flats[flat].exposure_s):
                    yield self._join(held, flat)
                else:
                    self._waiting[index].append(held)

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

    def _join(self, held: HeldFrame, flat: int) -> ReadyFrame:
        record = held.load()
        mean, flat_dose = self._flat_mean(flat)
        return ReadyFrame(
            record=record,
            held=held,
            dark=self._dark_mean(record.exposure_s, record.image.shape),
            flat=mean,
            scale=flat_dose / (record.exposure_s * record.i0),
        )

    def _flat_mean(self, index: int) -> tuple[FloatImage, float]:
        """Return the mean open beam without dark, and its mean exposure times I0."""
        if index not in self._flat_means:
            flats = self._flats[index].held
            total = np.empty(flats[0].shape, np.float32)
            dose = 0.0
            for number, held in enumerate(flats):
                record = held.load()
                dark = self._dark_mean(record.exposure_s, record.image.shape)
                if number == 0:
                    np.subtract(record.image, dark, out=total, dtype=np.float32)
                else:
                    total += record.image
                    total -= dark
                dose += record.exposure_s * record.i0
            if len(flats) > 1:
                total /= len(flats)
            self._flat_means[index] = (total, dose / len(flats))
            while len(self._flat_means) > _KEPT_FLAT_MEANS:
                self._flat_means.popitem(last=False)
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
            total = np.zeros(shape, np.float32)
            darks = self._darks[nearest].held
            for held in darks:
                total += held.load().image
            self._dark_means[nearest] = total / np.float32(len(darks))
        return self._dark_means[nearest]


class _Frames:
    """Frames that are averaged, each slot with its latest attempt."""

    def __init__(self) -> None:
        self._by_slot: dict[tuple[str, int, int], list[HeldFrame]] = {}

    def __len__(self) -> int:
        return sum(len(frames) for frames in self._by_slot.values())

    @property
    def held(self) -> list[HeldFrame]:
        return [held for frames in self._by_slot.values() for held in frames]

    @property
    def exposure_s(self) -> float:
        return self.held[0].record.exposure_s

    def add(self, held: HeldFrame) -> bool:
        """Keep a frame; False where a later attempt at the same slot is here already."""
        slot, attempt = held.record.slot, held.record.attempt
        kept = self._by_slot.get(slot)
        if kept is None or attempt > kept[0].record.attempt:
            self._by_slot[slot] = [held]
        elif attempt == kept[0].record.attempt:
            # A recorder that does not number its frames: each is one more.
            kept.append(held)
        else:
            return False
        return True
