"""Registration of frames while they arrive, in one pass."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from edge_fitting.base import Edge, check_energies, check_frame, check_shape, resolve_edge
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._band_pass import Array, BandPass, Frame, Mask, SpectrumRings, choose_widths
from ._contrast import FieldContrast
from ._matching import Match, Matcher
from ._resample import resample_frame
from ._template import Template

# Modes of a reference series that a prediction uses beside the field's own spectrum.
_MOST_MODES = 2
# The picture of the jump is known once it stands out of the noise of one frame by this much, squared.
_READY = 9.0
# A match this much worse than the frames before let expect is searched for anew.
_LEAST_QUALITY = 0.7
# A place far away has to fit this much better than the one nearby.
_MUCH_BETTER = 1.15
#: Frames kept at most while the edge has not been passed.
MOST_KEPT = 40
#: Frames smaller than this along an axis show too little to register.
SMALLEST_PX = 24


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredFrame:
    """One frame that has been moved to its place.

    Attributes
    ----------
    index : int
        Number of the frame, in the order they were pushed.
    energy_ev : float
        Its energy.
    optical_depth : ndarray of float32, shape (rows, cols)
        The frame, resampled once; NaN where nothing of it is known.
    shift_px, sigma_px : tuple of float
        Displacement of its content relative to the first frame (rows, columns; positive down and right), and standard
        deviations; infinite where the frame could not be registered and stays at the last shift.
    quality : float
        Correlation with what was expected, 0 to 1.
    registered : bool
        Whether a shift was found.
    magnification, rotation_deg : float
        As of `RegisteredStack`; frames that are registered one by one are displaced only.
    """

    index: int
    energy_ev: float
    optical_depth: Frame
    shift_px: tuple[float, float]
    sigma_px: tuple[float, float]
    quality: float
    registered: bool
    magnification: float = 1.0
    rotation_deg: float = 0.0


class EnergyFunctions:
    """The functions of energy that a template is fitted on: 1, the field's own contrast, modes of the references.

    Parameters
    ----------
    references : ReferenceSeries, optional
        Where they cover an energy their modes take part.
    """

    def __init__(self, references: ReferenceSeries | None) -> None:
        self._references = references
        self._n_modes = 0 if references is None else min(_MOST_MODES, references.soc.size - 1)

    @property
    def n(self) -> int:
        """How many there are."""
        return 2 + self._n_modes

    def __call__(self, energy_ev: float, contrast: float) -> Array:
        """Values at one energy for the contrast of its frame."""
        out = np.zeros(self.n)
        out[:2] = 1.0, contrast
        if self._n_modes and self._references is not None:
            # Energies the references do not cover have no modes; the contrast is there for all.
            with contextlib.suppress(EdgeFittingError):
                out[2:] = self._references.basis([energy_ev], self._n_modes)[1:, 0]
        return out


class Registrar:
    """Template, matcher and the rules when to search anew: what live and whole-stack registration share.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    n_functions : int
        Functions of energy.
    """

    def __init__(self, shape: tuple[int, int], n_functions: int) -> None:
        self.shape = shape
        self.matcher = Matcher(shape)
        self.template = Template(shape, n_functions)
        self._n_functions = n_functions
        self.last_px: Array = np.zeros(2)

    def restart(self) -> None:
        """Forget the frames, keep the noise and the last shift."""
        ridge = self.template.ridge
        self.template = Template(self.shape, self._n_functions)
        self.template.ridge = ridge

    def begin(self, frame: Frame, usable: Mask, functions: Array, shift_px: Array) -> None:
        """Add a frame at a shift without looking at it."""
        self.matcher.move(frame, usable, shift_px)
        known = self.matcher.known
        nothing = np.zeros(self.shape, np.float32)
        mean = self.template.mean() if self.template.n_frames else nothing
        self.template.add(self.matcher.moved, known, mean, functions)

    def register(self, frame: Frame, usable: Mask, functions: Array) -> Match:
        """Find the shift of a frame against the template, and add the frame if it is found."""
        predicted, mean = self.template.predict(functions), self.template.mean()
        match = self.search(frame, usable, predicted, mean, functions, (self.last_px[0], self.last_px[1]))
        if match.found:
            self.last_px = np.array(match.shift_px)
            self.template.add(self.matcher.moved, self.matcher.known, predicted, functions)
            self.note_noise(match, functions)
        return match

    def search(
        self,
        frame: Frame,
        usable: Mask,
        predicted: Frame,
        mean: Frame,
        functions: Array,
        start_px: tuple[float, float],
    ) -> Match:
        """Match from a start, and from a coarse search where that fails or is worse than can be expected."""
        mask = self.template.mask()
        match = self.matcher.match(frame, usable, predicted, mean, mask, start_px)
        if match.found and match.quality >= _LEAST_QUALITY * self.expected_quality(functions):
            return match
        best, wanted = match, _MUCH_BETTER * match.quality
        for expected in (predicted, mean):
            start = self.matcher.coarse(frame, usable, expected, mask)
            other = self.matcher.match(frame, usable, predicted, mean, mask, start)
            if other.found and other.quality > wanted:
                best, wanted = other, other.quality
        self.matcher.move(frame, usable, np.array(best.shift_px))
        return best

    def expected_quality(self, functions: Array) -> float:
        """Correlation that a frame of this contrast should reach."""
        signal = functions[1] ** 2
        return math.sqrt(signal / (signal + self.template.ridge)) if signal > 0 else 0.0

    def note_noise(self, match: Match, functions: Array) -> None:
        """Learn the ratio of noise to structure from a match."""
        q2 = min(max(match.quality**2, 1e-6), 1.0 - 1e-6)
        ridge = functions[1] ** 2 * (1.0 - q2) / q2
        old = self.template.ridge
        self.template.ridge = ridge if old == 0.0 else old + 0.2 * (ridge - old)

    @property
    def ready(self) -> bool:
        """Whether the picture of the jump is known."""
        return self.template.spread() > _READY * self.template.ridge > 0.0


@dataclass(slots=True, eq=False)
class _Kept:
    index: int
    energy_ev: float
    frame: Frame
    functions: Array
    match: Match | None


class DriftTracker:
    """Register frames one by one, against what the frames before let expect.

    Each frame is band-passed and compared with the image that a running fit predicts at its energy and with the running
    mean of the registered frames, by Gauss-Newton steps from the last shift. The first frames show little structure:
    they are kept until the edge is passed, registered again, and only then returned.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of a frame.
    edge : str or Edge
        Edge that is scanned.
    references : ReferenceSeries, optional
        Their modes let a prediction follow the state; none are needed.

    Raises
    ------
    EdgeFittingError
        For a shape or an edge that cannot be used.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        edge: str | Edge = "Ni_K",
        references: ReferenceSeries | None = None,
    ) -> None:
        self._shape = check_shape(shape)
        if min(self._shape) < SMALLEST_PX:
            raise EdgeFittingError(
                f"frames of {self._shape} are too small to register: at least {SMALLEST_PX} pixels along each axis are "
                "needed."
            )
        self._edge = resolve_edge(edge)
        self._functions = EnergyFunctions(references)
        self._band = BandPass(self._shape)
        self._registrar = Registrar(self._shape, self._functions.n)
        self._contrast: FieldContrast | None = None
        self._kept: list[_Kept] = []
        self._early = True
        self._n_frames = 0
        self._origin: Array = np.zeros(2)

    @property
    def n_frames(self) -> int:
        """Frames pushed so far."""
        return self._n_frames

    @property
    def n_kept(self) -> int:
        """Frames that wait until the edge is passed."""
        return len(self._kept)

    @property
    def widths_px(self) -> tuple[float, float]:
        """Widths of the band-pass now in use."""
        return self._band.widths

    def push(self, energy_ev: float, optical_depth: ArrayLike) -> list[RegisteredFrame]:
        """Add a frame; return those whose place is known now.

        Parameters
        ----------
        energy_ev : float
            Energy in eV.
        optical_depth : array_like, shape (rows, cols)
            Optical depth; NaN marks missing pixels.

        Returns
        -------
        list of RegisteredFrame
            Empty while frames are kept; then all that were kept; then one for each frame.

        Raises
        ------
        EdgeFittingError
            For an energy or a frame that cannot be used. Nothing is added then.
        """
        energy = float(check_energies(energy_ev, edge=self._edge)[0])
        frame = check_frame(optical_depth, self._shape)
        if self._contrast is None and np.isfinite(frame).any():
            self._contrast = FieldContrast(frame)
        index, self._n_frames = self._n_frames, self._n_frames + 1
        contrast = 0.0 if self._contrast is None else self._contrast(frame, self._registrar.last_px)
        functions = self._functions(energy, contrast)
        image, usable = self._band(frame)
        if self._registrar.template.n_frames == 0:
            if usable.any() and image.any():
                self._registrar.begin(image, usable, functions, np.zeros(2))
            match = None
        else:
            match = self._registrar.register(image, usable, functions)
            if not match.found and self._registrar.template.n_frames == 1:
                # Two frames that have nothing in common: the later one begins anew.
                self._registrar.restart()
                self._registrar.begin(image, usable, functions, self._registrar.last_px)
        if not self._early:
            assert match is not None
            return [self._released(index, energy, frame, match)]
        self._kept.append(_Kept(index, energy, frame.copy(), functions, match))
        if self._registrar.ready or len(self._kept) >= MOST_KEPT:
            return self.finish()
        return []

    def finish(self) -> list[RegisteredFrame]:
        """Register the kept frames again and return them; afterwards frames are returned as they come."""
        if not self._early:
            return []
        self._early = False
        kept, self._kept = self._kept, []
        if not kept:
            return []
        matches = self._register_again(kept)
        self._origin = np.array(matches[0].shift_px) if matches[0].found else np.zeros(2)
        return [
            self._released(k.index, k.energy_ev, k.frame, match)
            for k, match in zip(kept, matches, strict=True)
        ]

    def _register_again(self, kept: list[_Kept]) -> list[Match]:
        """From the latest frame back, which shows most, then once more against all."""
        registrar = self._registrar
        if registrar.template.n_frames > 2:
            self._choose_widths(kept)
        order = kept[::-1] if abs(kept[-1].functions[1]) >= abs(kept[0].functions[1]) else kept
        registrar.restart()
        matches: dict[int, Match] = {}
        for k in order:
            image, usable = self._band(k.frame)
            if registrar.template.n_frames == 0:
                if usable.any() and image.any():
                    registrar.begin(image, usable, k.functions, registrar.last_px)
                continue
            registrar.register(image, usable, k.functions)
        for k in order:
            image, usable = self._band(k.frame)
            predicted, mean = registrar.template.predict(k.functions), registrar.template.mean()
            start = (float(registrar.last_px[0]), float(registrar.last_px[1]))
            matches[k.index] = registrar.search(image, usable, predicted, mean, k.functions, start)
            if matches[k.index].found:
                registrar.last_px = np.array(matches[k.index].shift_px)
        newest = matches[kept[-1].index]
        if newest.found:
            registrar.last_px = np.array(newest.shift_px)
        return [matches[k.index] for k in kept]

    def _choose_widths(self, kept: list[_Kept]) -> None:
        rings = SpectrumRings(self._shape)
        registrar = self._registrar
        mask = registrar.template.mask()
        signal, residual, n = np.zeros(rings.frequency.size), np.zeros(rings.frequency.size), 0
        for k in kept:
            if k.match is None or not k.match.found:
                continue
            image, usable = self._band(k.frame)
            registrar.matcher.move(image, usable, np.array(k.match.shift_px))
            predicted = registrar.template.predict(k.functions)
            inside = mask * registrar.matcher.known
            signal += rings(predicted * inside)
            residual += rings((registrar.matcher.moved - predicted) * inside)
            n += 1
        if n:
            # The prediction holds noise of its own, no more than the residuals of few frames show.
            widths = choose_widths(
                rings.frequency, np.maximum(signal - residual / n, 0.0), residual, self._band.widths
            )
            if widths != self._band.widths:
                self._band = BandPass(self._shape, widths)

    def _released(self, index: int, energy_ev: float, frame: Frame, match: Match) -> RegisteredFrame:
        place = np.array(match.shift_px) if match.found else self._registrar.last_px
        shift = place - self._origin
        return RegisteredFrame(
            index=index,
            energy_ev=energy_ev,
            optical_depth=resample_frame(frame, shift),
            shift_px=(float(shift[0]), float(shift[1])),
            sigma_px=match.sigma_px if match.found else (math.inf, math.inf),
            quality=match.quality,
            registered=match.found,
        )
