"""Counts of point detectors as rates, with what their dead time lost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from callbacks.documents import Reading, Slot

from ._reducer import Item

# Above this share the correction is worth a warning: it depends on a dead time that is known to some percent.
_LARGE = 0.1


class CountRates:
    """Reducer that turns counts into counts per second and corrects them for dead time.

    A detector that is dead for a fixed time t after each count and counts at a rate m sees ``m / (1 - m t)``
    (non-paralysable; Knoll, Radiation Detection and Measurement, chapter 4). A rate that the dead time does not allow
    is no number.

    Parameters
    ----------
    dead_time_s : mapping of str to float
        Dead time of each channel that counts; the others pass as they are.
    """

    waiting: frozenset[Slot] = frozenset()
    is_provisional = False

    def __init__(self, dead_time_s: Mapping[str, float]) -> None:
        self._dead_time_s = dead_time_s
        self._largest: dict[str, float] = {}
        self._impossible: dict[str, int] = {}

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the results should know."""
        said = [
            f"up to {share:.0%} of the counts of {role} were lost in its dead time of {self._dead_time_s[role]:.3g} s: "
            "they are added, and an error of the dead time counts in proportion"
            for role, share in self._largest.items()
            if share > _LARGE
        ]
        said += [
            f"{count} readings of {role} count faster than its dead time of {self._dead_time_s[role]:.3g} s allows: "
            "they cannot be used; look at that number"
            for role, count in self._impossible.items()
        ]
        return said

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return it with rates."""
        if not isinstance(item, Reading):
            yield item
            return
        channels = dict(item.channels)
        for role, dead_time_s in self._dead_time_s.items():
            if role in channels:
                channels[role] = self._rate(role, float(channels[role]), item.exposure_s, dead_time_s)
        yield replace(item, channels=channels)

    def finish(self) -> Iterator[Item]:
        """Return nothing: no reading is held back."""
        return iter(())

    def reopen(self) -> None:
        """Take further readings, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of nothing."""

    def _rate(self, role: str, counts: float, exposure_s: float, dead_time_s: float) -> float:
        rate = counts / exposure_s if exposure_s > 0 else np.nan
        lost = rate * dead_time_s
        if lost >= 1.0:
            self._impossible[role] = self._impossible.get(role, 0) + 1
            return np.nan
        if np.isfinite(lost):
            self._largest[role] = max(self._largest.get(role, 0.0), lost)
        return rate / (1.0 - lost)
