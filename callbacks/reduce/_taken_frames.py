"""Darks or flats that are averaged, each slot with its latest attempt."""

from callbacks.documents import (
    Slot,
)

from ._image_store import HeldFrame


class TakenFrames:
    """Frames that are averaged, each slot with its latest attempt."""

    def __init__(self) -> None:
        self._by_slot: dict[Slot, list[HeldFrame]] = {}
        self._rejected: list[HeldFrame] = []
        self._refused: set[Slot] = set()

    @property
    def n_came(self) -> int:
        """Frames that have been taken, those that cannot be used among them."""
        return sum(len(frames) for frames in self._by_slot.values()) + len(self._refused)

    @property
    def held(self) -> list[HeldFrame]:
        """Frames that can be used."""
        frames = [held for frames in self._by_slot.values() for held in frames if not held.is_lost]
        return [held for held in frames if held not in self._rejected] if self._rejected else frames

    @property
    def exposure_s(self) -> float:
        return self.held[0].reading.exposure_s

    def add(self, held: HeldFrame) -> bool:
        """Keep a frame; False where a later attempt at the same slot is here already."""
        slot, attempt = held.reading.slot, held.reading.attempt
        kept = self._by_slot.get(slot)
        if kept is None or attempt > kept[0].reading.attempt:
            self._by_slot[slot] = [held]
        elif attempt == kept[0].reading.attempt:
            # A recorder that does not number its frames: each is one more.
            kept.append(held)
        else:
            return False
        self._refused.discard(slot)
        return True

    def refuse(self, slot: Slot) -> None:
        """Note that the frame of a slot came and cannot be used."""
        if slot not in self._by_slot:
            self._refused.add(slot)

    def was_refused(self, slot: Slot) -> bool:
        """Whether the frame of a slot could not be used when it came first."""
        return slot in self._refused

    def reject(self, held: HeldFrame) -> None:
        """Do not use a frame."""
        self._rejected.append(held)

    def check_again(self) -> None:
        """Forget what was found out about the frames: their dark has changed."""
        for frames in self._by_slot.values():
            for held in frames:
                held.light = None
        self._rejected.clear()
