"""Offsets of point detectors: their means without beam are subtracted from every reading."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from callbacks.documents import Reading, Slot

from ._reducer import Item, Reduced, Retraction


class DarkCurrents:
    """Reducer for readings of point detectors, whose values become those of each channel without its offset.

    Darks that come late correct the readings before them: these are taken out again and given anew.

    Parameters
    ----------
    expected : int
        Darks that the plan takes; without any nothing is subtracted, which is said.
    """

    waiting: frozenset[Slot] = frozenset()
    is_provisional = False

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._darks: dict[Slot, Reading] = {}
        self._readings: dict[Slot, Reading] = {}
        self._given: dict[Slot, Reduced] = {}
        self._offsets: dict[str, float] = {}

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the results should know."""
        if self._offsets or not self._readings:
            return []
        if self._expected:
            return ["no dark reading could be used: the offsets of the detectors are not subtracted"]
        return ["no readings without beam were taken: the offsets of the detectors are not subtracted"]

    @property
    def offsets(self) -> Mapping[str, float]:
        """Mean of each channel without beam."""
        return self._offsets

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if not isinstance(item, Reading):
            yield item
        elif item.stream == "dark":
            before = self._darks.get(item.slot)
            if before is None or before.attempt < item.attempt:
                self._darks[item.slot] = item
                self._offsets = self._means()
                for slot in tuple(self._given):
                    yield from self._give(slot)
        elif item.stream == "primary":
            before = self._readings.get(item.slot)
            if before is None or before.attempt < item.attempt:
                self._readings[item.slot] = item
                yield from self._give(item.slot)

    def finish(self) -> Iterator[Item]:
        """Return nothing: no reading is held back."""
        return iter(())

    def reopen(self) -> None:
        """Take further readings, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of everything."""
        self._darks.clear()
        self._readings.clear()
        self._given.clear()

    def _means(self) -> dict[str, float]:
        roles = {role for dark in self._darks.values() for role in dark.channels}
        values = {
            role: [float(dark.channels[role]) for dark in self._darks.values() if role in dark.channels]
            for role in sorted(roles)
        }
        return {role: float(np.mean(finite)) for role, held in values.items() if (finite := _finite(held))}

    def _give(self, slot: Slot) -> Iterator[Item]:
        reading = self._readings[slot]
        before = self._given.get(slot)
        if before is not None:
            yield Retraction(before)
        values = {
            role: float(value) - self._offsets.get(role, 0.0) for role, value in reading.channels.items()
        }
        self._given[slot] = reduced = Reduced(
            reading.label,
            reading.energy_ev,
            values,
            time_s=reading.time_s,
            notes={"exposure_s": reading.exposure_s, "offsets": self._offsets},
        )
        yield reduced


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]
