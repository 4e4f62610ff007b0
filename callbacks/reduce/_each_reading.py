"""The reducer for readings that need no others: point detectors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from callbacks.documents import Reading, Slot

from ._reducer import Item, Reduced, Retraction


class EachReading:
    """Reducer that makes something of every reading of the sample by itself; a later attempt replaces an earlier one.

    Parameters
    ----------
    value : callable
        Makes the value of a reading.
    """

    waiting: frozenset[Slot] = frozenset()
    is_provisional = False

    def __init__(self, value: Callable[[Reading], Any]) -> None:
        self.warnings: Sequence[str] = ()
        self._value = value
        self._given: dict[Slot, Reduced] = {}

    def add(self, item: Item) -> Iterator[Item]:
        """Take one item and return what can go on."""
        if not isinstance(item, Reading):
            yield item
            return
        before = self._given.get(item.slot)
        if item.stream != "primary" or (before is not None and before.label.attempt >= item.attempt):
            return
        if before is not None:
            yield Retraction(before)
        reduced = Reduced(item.label, item.energy_ev, self._value(item), time_s=item.time_s)
        self._given[item.slot] = reduced
        yield reduced

    def finish(self) -> Iterator[Item]:
        """Return nothing: no reading is held back."""
        return iter(())

    def reopen(self) -> None:
        """Take further readings, of a run that resumes the one that ended."""

    def close(self) -> None:
        """Let go of everything."""
        self._given.clear()
