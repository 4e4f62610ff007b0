"""A sample frame with its dark and flat field, and the frames that these were made of."""

from dataclasses import dataclass, field
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
    """

    reading: Reading
    correction: Correction = field(repr=False)
    dark: FloatImage = field(repr=False)
    flat: FloatImage = field(repr=False)
    scale: float
    saturated_flat: BoolImage | None = field(default=None, repr=False)

    @property
    def limit(self) -> float:
        """Counts of the frame from which on a pixel is saturated; infinite where that is not known."""
        return self.correction.limit

    @cached_property
    def transmission(self) -> float:
        """How much of the open beam the frame shows on average; 0 where it holds no light."""
        return transmission(self.reading.image, self.dark, self.flat, self.scale)
