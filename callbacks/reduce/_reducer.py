"""From readings to what an estimator takes: the items that travel, and what a reducer is."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from callbacks.documents import FrameLoss, Reading, Slot
from scan_contract import Label

_NO_NOTES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Reduced:
    """A reading, or several, as an estimator takes it.

    Attributes
    ----------
    label : Label
        Which reading of the plan it is.
    energy_ev : float
        Readback.
    values : ndarray of float32, or CorrectedFrame
        Optical depth or yield; or counts with what corrects them, for a kernel that corrects and projects in one
        pass.
    weight : float
        Inverse of the variance, in a unit of the run.
    time_s : float
        When it was recorded (seconds since the epoch).
    notes : mapping
        What the reducers found out on their way, by name.
    """

    label: Label
    energy_ev: float
    values: Any = field(repr=False)
    weight: float = 1.0
    time_s: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=lambda: _NO_NOTES, repr=False)

    @property
    def slot(self) -> Slot:
        """What it is for: there is one at a time for each slot."""
        return self.label.slot


@dataclass(frozen=True)
class Retraction:
    """What was given before is to be taken out again: it was taken anew, or does not belong.

    Attributes
    ----------
    reduced : Reduced
        With the values and the weight with which it was given.
    """

    reduced: Reduced


Item = Reading | FrameLoss | Reduced | Retraction
"""What travels from reducer to reducer; a `FrameLoss` says that a reading will not come or cannot be used."""


class Reducer(Protocol):
    """One step on the way from readings to an estimator. It passes on what it has no use for."""

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the results should know, as things are now."""

    @property
    def waiting(self) -> Collection[Slot]:
        """Slots of the readings of the sample that are held back until what corrects them has come."""

    @property
    def is_provisional(self) -> bool:
        """Whether something was given with the nearest correction because its own has never come."""

    def add(self, item: Item) -> Iterable[Item]:
        """Take one item and return those that can go on."""

    def finish(self) -> Iterable[Item]:
        """Return what is held back still; the run is over."""

    def reopen(self) -> None:
        """Take further readings after `finish`, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of everything."""
