"""Frames that are in no map, with the reason of each: what a reader of the map has to know."""

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

Slot = tuple[Any, ...]
"""Stream, energy index, repeat and places on further axes: what a reading is for, see `scan_contract.Label`."""

_NAMES = {"dark": "dark", "flat": "flat field", "primary": "frame"}


@dataclass(frozen=True)
class FrameLoss:
    """One frame that cannot be used.

    Attributes
    ----------
    slot : tuple
        Stream, energy index, repeat and places on further axes.
    attempt : int
        Which attempt at this slot it was.
    energy_ev : float
        Where it was taken: the readback, or the setpoint where that is no energy.
    exposure_s : float
        Exposure.
    reason : str
        What is wrong with it; the same text for the same fault, so that frames are told together.
    """

    slot: Slot
    attempt: int
    energy_ev: float
    exposure_s: float
    reason: str


class LeftOut:
    """The frames that are left out now; a frame taken again successfully is no longer among them."""

    def __init__(self) -> None:
        self._losses: dict[Slot, FrameLoss] = {}

    def __contains__(self, slot: object) -> bool:
        return slot in self._losses

    def add(self, loss: FrameLoss) -> None:
        """Note a frame."""
        self._losses[loss.slot] = loss

    def discard(self, slot: Slot) -> None:
        """Strike a frame off: there is one for its slot now."""
        self._losses.pop(slot, None)

    def losses(self) -> list[FrameLoss]:
        """Return the frames that are left out."""
        return list(self._losses.values())

    def sentences(self, in_map: Container[Slot] = ()) -> list[str]:
        """Return a sentence for each reason, naming every frame by its energy (darks by their exposure).

        Parameters
        ----------
        in_map : container of slots
            Sample frames that are in the map, by an earlier attempt.
        """
        groups: dict[tuple[str, str], set[float]] = defaultdict(set)
        for loss in self._losses.values():
            stream = loss.slot[0]
            if loss.slot not in in_map:
                groups[stream, loss.reason].add(loss.exposure_s if stream == "dark" else loss.energy_ev)
        return [_sentence(stream, sorted(where), reason) for (stream, reason), where in groups.items()]


def energies_text(energies_ev: list[float]) -> str:
    """Name energies."""
    return ", ".join(f"{energy:.1f}" for energy in energies_ev) + " eV"


def _sentence(stream: str, where: list[float], reason: str) -> str:
    if stream == "dark":
        return f"darks of {', '.join(f'{exposure:g}' for exposure in where)} s are left out: {reason}"
    name = _NAMES[stream]
    if len(where) == 1:
        return f"the {name} at {energies_text(where)} is left out: {reason}"
    return f"the {name}s at {energies_text(where)} are left out: {reason}"
