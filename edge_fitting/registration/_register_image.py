"""Where one picture of a sample lies against another one: maps of other edges, of other scans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import LAYOUT
from edge_fitting.errors import EdgeFittingError

from ._band_pass import Array, BandPass, Frame
from ._drift_tracker import SMALLEST_PX
from ._matching import Match, Matcher, repeats_at
from ._resample import linear_part, resample_frame
from ._similarity import MOST_MAGNIFICATION, MOST_ROTATION_DEG, block_places, of_frame

# Pictures are halved until they are about this large; what is found there is the start for the next one.
_COARSEST_PX = 96
_MOST_ROUNDS = 6
_AT_REST_PX = 0.01
_LEAST_QUALITY = 0.4
# A change of magnification or rotation is followed from these standard deviations on (large ones hide themselves), and
# kept from these and this displacement (root mean square over the field) on.
_FOLLOWED_SIGMAS, _KEPT_SIGMAS = 3.0, 5.0
_LEAST_PX = 0.05
# A second band shows what the shift owes to the choice of the first: structure that the other picture lacks.
_OTHER_BAND = (1.4, 6.0)


@dataclass(frozen=True, slots=True)
class ImagePlace:
    """Where a picture lies against a reference picture.

    Attributes
    ----------
    shift_px, sigma_px : tuple of float
        Displacement of the content of the picture relative to the reference (rows, columns; positive down and right),
        and standard deviations; 0 and infinite where it was not found.
    magnification, rotation_deg : float
        By how much its content is larger than that of the reference, and turned (counter-clockwise as seen) about the
        middle, before it is displaced; 1 and 0 where the pictures ask for neither.
    quality : float
        Correlation of both, band-passed, 0 to 1.
    found : bool
        Whether there is a place at all.
    warnings : tuple of str
        What makes it doubtful, each in one sentence.
    """

    shift_px: tuple[float, float] = (0.0, 0.0)
    sigma_px: tuple[float, float] = (math.inf, math.inf)
    magnification: float = 1.0
    rotation_deg: float = 0.0
    quality: float = 0.0
    found: bool = False
    warnings: tuple[str, ...] = ()


def register_image(image: ArrayLike, reference: ArrayLike) -> ImagePlace:
    """Find where one picture of a sample lies against another one, such as maps of two edges.

    Parameters
    ----------
    image, reference : array_like, shape (rows, cols)
        Optical depth, jump, or any other map that shows the structure of the sample; NaN is missing. They may differ in
        contrast and noise, as pictures at two edges do.

    Returns
    -------
    ImagePlace
        ``resample_frame(image, place.shift_px, magnification=..., rotation_deg=...)`` lies on the reference.

    Raises
    ------
    EdgeFittingError
        For pictures that are not two-dimensional or differ in shape.

    Notes
    -----
    Both are band-passed and compared as frames are in `register_stack`, from the whole field searched in pictures of
    about a hundred pixels to the full one; magnification and rotation come from the blocks of the field.
    """
    picture, target = (np.require(part, np.float32, LAYOUT) for part in (image, reference))
    if picture.ndim != 2 or picture.shape != target.shape:
        raise EdgeFittingError(
            f"two pictures of one shape (rows, cols) are needed, not {picture.shape} and {target.shape}."
        )
    if min(picture.shape) < SMALLEST_PX:
        return ImagePlace(
            warnings=(
                f"pictures of {picture.shape[0]} x {picture.shape[1]} pixels are too small to register (at least "
                f"{SMALLEST_PX} along each axis).",
            )
        )
    if not all(np.isfinite(part).any() for part in (picture, target)):
        return ImagePlace(warnings=("a picture without a finite value cannot be registered.",))
    place = _Place()
    found: _Match | None = None
    for halvings in reversed(range(_halvings((picture.shape[0], picture.shape[1])) + 1)):
        pair = _Pair(_halved(picture, halvings), _halved(target, halvings))
        start = _Place(place.matrix, place.shift * (1.0 if found is None else 2.0))
        found = pair.register(start, is_first=found is None)
        if found is None:
            return ImagePlace(
                warnings=(
                    "the two pictures show nothing in common (an empty field, another part of the sample): there is "
                    "no place to give.",
                )
            )
        place = found.place
    assert found is not None
    magnification, rotation_deg = place.similarity
    period = repeats_at(pair.target, pair.usable)
    warnings: tuple[str, ...] = ()
    if period is not None:
        warnings = (
            f"the texture repeats itself every ({period[0]}, {period[1]}) px: the place is known only up to multiples "
            "of that.",
        )
    return ImagePlace(
        shift_px=(float(place.shift[0]), float(place.shift[1])),
        sigma_px=found.sigma_px,
        magnification=magnification,
        rotation_deg=rotation_deg,
        quality=found.quality,
        found=True,
        warnings=warnings,
    )


class _Place:
    """A linear map about the middle, then a shift."""

    def __init__(self, matrix: Array | None = None, shift: Array | None = None) -> None:
        self.matrix: Array = np.eye(2) if matrix is None else matrix
        self.shift: Array = np.zeros(2) if shift is None else shift

    @property
    def is_turned(self) -> bool:
        return not np.array_equal(self.matrix, np.eye(2))

    @property
    def similarity(self) -> tuple[float, float]:
        if not self.is_turned:
            return 1.0, 0.0
        return (
            math.sqrt(float(np.linalg.det(self.matrix))),
            math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0])),
        )

    def then(self, matrix: Array, shift: Array) -> _Place:
        """Return the place of a picture whose content, put back by this one, is still at another one."""
        return _Place(self.matrix @ matrix, self.matrix @ shift + self.shift)


@dataclass(frozen=True, slots=True)
class _Match:
    place: _Place
    sigma_px: tuple[float, float]
    quality: float


class _Pair:
    """Two pictures of one size."""

    def __init__(self, picture: Frame, target: Frame) -> None:
        self._picture, self._reference = picture, target
        self.shape = (picture.shape[0], picture.shape[1])
        self._matcher = Matcher(self.shape)
        self._band = BandPass(self.shape)
        self.target, self.usable = self._band(target)
        self._places = block_places(self.shape, self._matcher.block_px)
        self._radius = float(np.sqrt(np.mean(np.sum(self._places**2, axis=1))))

    def register(self, start: _Place, *, is_first: bool) -> _Match | None:
        """Find the place from one nearby; search the whole field first where there is none."""
        place = start
        if is_first:
            image, usable = self._band(self._picture)
            # A place far away has to be better than staying, since a search always finds one.
            starts = [(0.0, 0.0), self._matcher.coarse(image, usable, self.target, self.usable)]
            tried = [self._match(_Place(), at) for at in starts]
            best = max(tried, key=lambda match: match.quality * match.found)
            if not best.found or best.quality < _LEAST_QUALITY:
                return None
            place = _Place(shift=np.array(best.shift_px))
        follows = place.is_turned
        for _ in range(_MOST_ROUNDS):
            match = self._match(place, (0.0, 0.0))
            if not match.found:
                return None
            change, sigma = self._change(match)
            follows = follows or bool((np.abs(change) > _FOLLOWED_SIGMAS * sigma).any())
            if not follows:
                change = np.zeros(2)
            place = place.then(
                linear_part(1.0 + change[0], math.degrees(change[1])), np.array(match.shift_px)
            )
            if math.hypot(*match.shift_px) + float(np.abs(change).max()) * self._radius < _AT_REST_PX:
                break
        if follows and not self._is_clear(place, sigma):
            return self._displaced(place)
        return (
            None
            if match.quality < _LEAST_QUALITY
            else _Match(place, self._sigma(place, match), match.quality)
        )

    def _is_clear(self, place: _Place, sigma: Array) -> bool:
        """Whether magnification and rotation are more than their uncertainty, and no more than optics make."""
        magnification, rotation_deg = place.similarity
        total = np.abs([magnification - 1.0, math.radians(rotation_deg)])
        # Parts that move on their own look like a large change.
        if total[0] > MOST_MAGNIFICATION or abs(rotation_deg) > MOST_ROTATION_DEG:
            return False
        return bool(((total > _KEPT_SIGMAS * sigma) & (total * self._radius > _LEAST_PX)).any())

    def _displaced(self, start: _Place) -> _Match | None:
        match = self._match(_Place(), (float(start.shift[0]), float(start.shift[1])))
        if not match.found or match.quality < _LEAST_QUALITY:
            return None
        place = _Place(shift=np.array(match.shift_px))
        return _Match(place, self._sigma(place, match), match.quality)

    def _match(self, place: _Place, start_px: tuple[float, float], band: BandPass | None = None) -> Match:
        target, usable = (self.target, self.usable) if band is None else band(self._reference)
        magnification, rotation_deg = place.similarity
        put_back = resample_frame(
            self._picture, place.shift, magnification=magnification, rotation_deg=rotation_deg
        )
        image, known = (band or self._band)(put_back)
        return self._matcher.match(image, known, target, target, usable, start_px)

    def _change(self, match: Match) -> tuple[Array, Array]:
        """Magnification and rotation that the blocks ask for beside the shift, and their standard deviations."""
        change, variance = of_frame(self._places, match.block_shifts)
        return change, np.sqrt(variance)

    def _sigma(self, place: _Place, match: Match) -> tuple[float, float]:
        other = self._match(place, (0.0, 0.0), BandPass(self.shape, _OTHER_BAND))
        change = other.shift_px if other.found else (0.0, 0.0)
        row, column = (math.hypot(a, b) for a, b in zip(match.sigma_px, change, strict=True))
        return row, column


def _halvings(shape: tuple[int, int]) -> int:
    return max(0, int(math.log2(min(shape) / _COARSEST_PX))) if min(shape) > _COARSEST_PX else 0


def _halved(picture: NDArray[np.float32], times: int) -> Frame:
    """Mean of squares of pixels, of those that have a value."""
    size = 2**times
    if size == 1:
        return picture
    rows, cols = (n // size for n in picture.shape)
    parts = picture[: rows * size, : cols * size].reshape(rows, size, cols, size)
    finite = np.isfinite(parts)
    n = finite.sum(axis=(1, 3))
    total = np.where(finite, parts, np.float32(0.0)).sum(axis=(1, 3), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, total / n, np.nan).astype(np.float32)
