"""A sample frame with its dark and flat field, and the frames that these were made of."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from callbacks.documents import (
    Reading,
)

from ._image_store import HeldFrame
from ._light import transmission

FloatImage = npt.NDArray[np.float32]
BoolImage = npt.NDArray[np.bool_]
_NO_PIXELS: npt.NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True)
class Correction:
    """The frames that correct a sample frame: whoever has them can have the same values again.

    Attributes
    ----------
    held : HeldFrame
        The sample frame.
    darks, flats : tuple of HeldFrame
        What is averaged to its dark and to its flat field; no dark stands for zero.
    flat_darks : tuple of tuple of HeldFrame
        The darks of each of the flats.
    limit : float
        Counts of the frame from which on a pixel is saturated; infinite where that is not known.
    flat_limits : tuple of float
        The same of each of the flats.
    """

    held: HeldFrame
    darks: tuple[HeldFrame, ...]
    flats: tuple[HeldFrame, ...]
    flat_darks: tuple[tuple[HeldFrame, ...], ...]
    limit: float
    flat_limits: tuple[float, ...]

    @property
    def frames(self) -> Iterator[HeldFrame]:
        """All frames that are needed for it."""
        yield self.held
        yield from self.darks
        yield from self.flats
        for darks in self.flat_darks:
            yield from darks

    def without_lost(self) -> "Correction":
        """Return what is left of it without the darks and flats that cannot be read back."""
        kept = [number for number, flat in enumerate(self.flats) if not flat.is_lost]
        return replace(
            self,
            darks=_readable(self.darks),
            flats=_readable(self.flats),
            flat_darks=tuple(_readable(self.flat_darks[number]) for number in kept),
            flat_limits=tuple(self.flat_limits[number] for number in kept),
        )


def _readable(frames: tuple[HeldFrame, ...]) -> tuple[HeldFrame, ...]:
    return tuple(held for held in frames if not held.is_lost)


@dataclass(frozen=True)
class CorrectedFrame:
    """A sample frame with its dark and flat field.

    The optical depth is ``-ln((image - dark) / flat * scale)``.

    Attributes
    ----------
    reading : Reading
        The sample frame.
    correction : Correction
        The frames that correct it.
    dark : ndarray, (rows, cols), float32
        Mean dark of the same exposure.
    flat : ndarray, (rows, cols), float32
        Mean open beam at the same energy, its own dark subtracted.
    scale : float
        Exposure times I0 of the flat over those of the frame.
    saturated_flat : ndarray of bool, (rows, cols), or None
        Pixels that are saturated in a frame of the flat field.
    flat_spikes : ndarray of int64
        Flat indices of pixels that stick out of the flat field.
    """

    reading: Reading
    correction: Correction = field(repr=False)
    dark: FloatImage = field(repr=False)
    flat: FloatImage = field(repr=False)
    scale: float
    saturated_flat: BoolImage | None = field(default=None, repr=False)
    flat_spikes: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_PIXELS, repr=False)

    @property
    def limit(self) -> float:
        """Counts of the frame from which on a pixel is saturated; infinite where that is not known."""
        return self.correction.limit

    @cached_property
    def spikes(self) -> npt.NDArray[np.int64]:
        """Flat indices of pixels whose value is missing: they stick out of the frame, or of its flat field."""
        own = self.correction.held.spikes
        if own is None or not own.size:
            return self.flat_spikes
        return np.union1d(own, self.flat_spikes) if self.flat_spikes.size else own

    @cached_property
    def transmission(self) -> float:
        """How much of the open beam the frame shows on average; 0 where it holds no light."""
        return transmission(self.reading.image, self.dark, self.flat, self.scale)
