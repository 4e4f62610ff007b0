"""Registration of a whole stack: one pass as frames would arrive, then passes of each frame against all others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import Edge, check_energies, check_stack, resolve_edge
from edge_fitting.references import ReferenceSeries

from ._band_pass import Array, BandPass, Frame, Mask, SpectrumRings, choose_widths
from ._contrast import FieldContrast
from ._drift_tracker import SMALLEST_PX, EnergyFunctions, Registrar
from ._matching import Match, Matcher, repeats_at
from ._resample import linear_part, resample_frame
from ._similarity import find_similarity
from ._template import Template

_MOST_PASSES = 6
_AT_REST_PX = 0.01
# Drift below this says nothing on what belongs to the detector and what to the sample.
_LEAST_DRIFT_PX = 0.7
# A pattern of the detector counts when this share of its power comes back in the other half of the frames.
_LEAST_REPEAT = 0.1
# Sample and pattern are found in turns, with steps longer than the residual.
_PATTERN_STEPS = 14
_PATTERN_STEP = 1.6
_LEAST_HELD = 0.5
# Drift is none when its mean chi-square, or its root mean square in pixels, is below these.
_NO_DRIFT_CHI2 = 2.0
_NO_DRIFT_PX = 0.02
_APART_PX = 0.3
# A band this wide is compared with a narrower one, not a wider one.
_WIDE_PX = 5.0
# Times that magnification and rotation are looked for; once they are taken out, blocks move apart by less than this
# share of what they did.
_MOST_TURNS = 3
_LESS_APART = 0.7
# Frames of about the same contrast share what misfit does to them.
_ALIKE = 7
# Frames with this share of the highest contrast come first.
_STRONG = 0.5
_FEWEST_WEAK = 3
# A frame whose structure of the sample is less than this of that of the pattern is not told from it.
_OUTWEIGHED, _NEARLY = 1.0, 1.3
# Noise finds itself in noise: anywhere in the field, with correlations below this in the better half of the frames.
_NOISE_QUALITY = 0.4
_NOISE_STEP_PX = 2.0
_NOISE_STEPS = 0.15
_NOISE_SIGMA_PX = 1.0
_FEWEST_FOUND = 0.25
_NOTHING = (
    "no structure of a sample was found to register on (an empty field, or masks that leave too little): the frames "
    "are left as they were."
)


@dataclass(frozen=True, slots=True, eq=False)
class RegisteredStack:
    """A stack whose frames have been moved to the place of the first one.

    Attributes
    ----------
    optical_depth : ndarray of float32, shape (n, rows, cols)
        Aligned frames, each resampled once from the original by :func:`resample_frame`; NaN where nothing is known.
        The original frames, where no drift was found.
    shifts_px : ndarray, shape (n, 2)
        Displacement of the content of each frame relative to frame 0 in rows and columns, positive down and right.
    shift_sigma_px : ndarray, shape (n, 2)
        Standard deviation of the place of each frame against all others. What frame 0 is off by, its own sigma, is
        common to all shifts. Infinite where nothing could be registered.
    quality : ndarray, shape (n,)
        Correlation of each band-passed frame with what the others let expect, 0 to 1.
    registered : ndarray of bool, shape (n,)
        Frames with a shift of their own; that of the others is interpolated.
    drift_found : bool
        Whether the frames move by more than the uncertainty of their shifts.
    widths_px : tuple of float
        Widths of the band-pass that the data asked for.
    warnings : tuple of str
        What makes the registration doubtful, each in one sentence.
    magnification, rotation_deg : ndarray, shape (n,)
        By how much the content of each frame is larger than that of frame 0, and turned (counter-clockwise as seen),
        about the middle of the frame; 1 and 0 where the data ask for neither.
    """

    optical_depth: Frame
    shifts_px: Array
    shift_sigma_px: Array
    quality: Array
    registered: NDArray[np.bool_]
    drift_found: bool
    widths_px: tuple[float, float]
    warnings: tuple[str, ...]
    magnification: Array
    rotation_deg: Array


def register_stack(
    energy_ev: ArrayLike,
    optical_depth: ArrayLike,
    *,
    edge: str | Edge = "Ni_K",
    references: ReferenceSeries | None = None,
) -> RegisteredStack:
    """Find how the sample drifted during a scan, and move every frame back.

    Parameters
    ----------
    energy_ev : array_like, shape (n,)
        Energies in eV, in the order the frames were taken.
    optical_depth : array_like, shape (n, rows, cols)
        Optical depth; NaN marks missing pixels.
    edge : str or Edge
        Edge that is scanned.
    references : ReferenceSeries, optional
        Their modes let the expected image follow the state of charge; none are needed, the spectrum of the field
        itself serves.

    Returns
    -------
    RegisteredStack
        With the frames as they were, and a warning, where there is nothing to register on.

    Raises
    ------
    EdgeFittingError
        For energies or frames that cannot be used.

    Notes
    -----
    A frame is compared, band-passed, with an offset, the image expected at its energy and the mean of the registered
    frames, and the shift is found by Gauss-Newton steps. Passes over the whole stack compare each frame with all others
    but itself. A pattern fixed to the detector is told from the sample by the drift itself and taken out before
    frames are compared, never from the frames that are returned. See the explanation of registration in the docs.
    """
    chosen = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=chosen)
    stack = check_stack(optical_depth, energies.size)
    n, shape = stack.shape[0], (stack.shape[1], stack.shape[2])
    if n == 1:
        return _untouched(stack, "a stack of one frame has no drift to find: nothing was registered.")
    if min(shape) < SMALLEST_PX:
        return _untouched(
            stack,
            f"frames of {shape[0]} x {shape[1]} pixels are too small to register (at least {SMALLEST_PX} along each "
            "axis): they are left as they were.",
        )
    if not np.isfinite(stack).any():
        return _untouched(stack, "no frame has a finite value: nothing was registered.")
    work = _StackRegistration(energies, stack, references)
    if not work.first_pass():
        return _untouched(stack, _NOTHING)
    work.refine()
    if work.is_noise():
        return _untouched(stack, _NOTHING)
    work.follow_optics()
    found = work.result()
    if work.is_noise(found.shift_sigma_px[found.registered]):
        return _untouched(stack, _NOTHING)
    return found


def _untouched(stack: Frame, warning: str) -> RegisteredStack:
    n = stack.shape[0]
    sigma = np.full((n, 2), np.inf)
    if n == 1:
        sigma[:] = 0.0
    return RegisteredStack(
        optical_depth=stack.copy(),
        shifts_px=np.zeros((n, 2)),
        shift_sigma_px=sigma,
        quality=np.zeros(n),
        registered=np.zeros(n, np.bool_),
        drift_found=False,
        widths_px=BandPass((stack.shape[1], stack.shape[2])).widths,
        warnings=(warning,),
        magnification=np.ones(n),
        rotation_deg=np.zeros(n),
    )


class _StackRegistration:
    """State of one registration: shifts, matches and the band-passed frames."""

    def __init__(self, energies: Array, stack: Frame, references: ReferenceSeries | None) -> None:
        self._energies = energies
        self._stack = self._original = stack
        self._change = np.zeros((energies.size, 2))  # of the magnification, and rotation in radians
        self._n = energies.size
        self._shape = (stack.shape[1], stack.shape[2])
        self._energy_functions = EnergyFunctions(references)
        self._band = BandPass(self._shape)
        self._pattern: Frame | None = None
        self._registrar = Registrar(self._shape, self._energy_functions.n)
        self._matches: dict[int, Match] = {}
        self._shifts = np.zeros((self._n, 2))
        self._contrast = FieldContrast(_mean_picture(stack))
        self._images: Frame = np.empty_like(stack)
        self._usable: list[Mask] = []
        self._filter()

    # -- passes --------------------------------------------------------------------------------------------

    def first_pass(self) -> bool:
        """Register frame after frame, from the end that shows more; False where nothing is found."""
        contrast = self._contrasts()
        half = max(1, self._n // 4)
        backwards = np.abs(contrast[-half:]).mean() > np.abs(contrast[:half]).mean()
        order = list(range(self._n))[:: -1 if backwards else 1]
        strong = np.abs(contrast) >= _STRONG * np.abs(contrast).max()
        # Until they are known, what all frames that show little of the sample have in common stands for what belongs
        # to the detector: of the sample it holds a faint and blurred part.
        weak_frames = np.flatnonzero(~strong)
        common = (
            self._images[weak_frames].mean(axis=0)
            if weak_frames.size >= _FEWEST_WEAK
            else np.zeros(self._shape, np.float32)
        )
        self._images -= common
        self._follow([k for k in order if strong[k]])
        self._images += common
        # What belongs to the detector is found on frames that show the sample well, before it can pull on the others.
        if len(self._matches) >= 2:
            functions = self._functions()
            self._take_pattern_out(self._build(functions), functions)
            self._registrar.template = self._build(functions)
        weak = [k for k in order if not strong[k]]
        if weak and self._matches:
            nearest = min(self._matches, key=lambda k: abs(k - weak[0]))
            self._registrar.last_px = self._shifts[nearest].copy()
        self._follow(weak)
        return len(self._matches) >= 2

    def _follow(self, order: list[int]) -> None:
        """Register frames one after the other, each from the last shift."""
        registrar = self._registrar
        alone = -1
        for k in order:
            image, usable = self._images[k], self._usable[k]
            functions = self._energy_functions(
                float(self._energies[k]), self._contrast(self._stack[k], registrar.last_px)
            )
            if registrar.template.n_frames == 0:
                if usable.any() and image.any():
                    registrar.begin(image, usable, functions, registrar.last_px)
                    self._shifts[k] = registrar.last_px
                    alone = k
                continue
            match = registrar.register(image, usable, functions)
            if match.found:
                if registrar.template.n_frames == 2 and alone >= 0:
                    self._matches[alone] = match
                self._matches[k] = match
                self._shifts[k] = match.shift_px
            elif registrar.template.n_frames == 1:
                registrar.restart()
                registrar.begin(image, usable, functions, registrar.last_px)
                self._shifts[k] = registrar.last_px
                alone = k

    def refine(self) -> None:
        """Register each frame against all others until the shifts are at rest."""
        for number in range(_MOST_PASSES):
            functions = self._functions()
            template = self._build(functions)
            if number in (0, 1):
                if self._choose_widths(template, functions):
                    self._filter()
                    template = self._build(functions)
                self._take_pattern_out(template, functions)
                template = self._build(functions)
            before = self._shifts.copy()
            self._match_all(template, functions)
            known = self._found()
            if number > 1 and known.any() and np.abs(self._shifts - before)[known].max() < _AT_REST_PX:
                break
        self._template = template

    def is_noise(self, sigma_px: Array | None = None) -> bool:
        """Whether what was found jumps about the field and resembles nothing much: it is no sample."""
        known = sorted(self._matches)
        if len(known) < max(2.0, _FEWEST_FOUND * self._n):
            return True
        steps = np.hypot(*np.diff(self._shifts[known], axis=0).T)
        quality = np.sort([self._matches[k].quality for k in known])[len(known) // 2 :]
        jumps = np.mean(steps > _NOISE_STEP_PX) > _NOISE_STEPS
        vague = sigma_px is not None and np.median(sigma_px) > _NOISE_SIGMA_PX
        return bool((jumps or vague) and np.median(quality) < _NOISE_QUALITY)

    def follow_optics(self) -> None:
        """Take a change of magnification and rotation out of what is compared, where the blocks of the field show one.

        It stays when the blocks agree better with each other then: parts that move on their own do not.
        """
        before = self._apart()
        kept = (self._stack, self._change, dict(self._matches), self._shifts.copy(), self._band)
        for _ in range(_MOST_TURNS):
            found = find_similarity(
                self._matches, self._energies, self._shape, self._registrar.matcher.block_px
            )
            if not found.is_significant:
                break
            self._change = self._change + found.change
            self._stack = np.stack(
                [
                    resample_frame(
                        self._original[k], (0.0, 0.0), magnification=1.0 + m, rotation_deg=math.degrees(turn)
                    )
                    for k, (m, turn) in enumerate(self._change)
                ]
            )
            self._filter()
            self.refine()
        if self._change.any() and not self._apart() < _LESS_APART * before:
            self._stack, self._change, self._matches, self._shifts, self._band = kept
            self._filter()
            self.refine()

    def _match_all(self, template: Template, functions: Array) -> None:
        matches = self._matched(template, functions)
        for k, match in matches.items():
            self._registrar.note_noise(match, functions[k])
        if len(matches) >= 2:
            self._matches = matches
        for k, match in self._matches.items():
            self._shifts[k] = match.shift_px

    def _matched(self, template: Template, functions: Array) -> dict[int, Match]:
        """Match of each frame against all others, where it is found."""
        registrar = self._registrar
        template.ridge = registrar.template.ridge
        registrar.template = template
        matches: dict[int, Match] = {}
        for k in range(self._n):
            start = self._interpolated(k)
            if k in self._matches:
                registrar.matcher.move(self._images[k], self._usable[k], self._shifts[k])
                predicted, mean = template.without(
                    registrar.matcher.moved, registrar.matcher.known, functions[k]
                )
            else:
                predicted, mean = template.predict(functions[k]), template.mean()
            match = registrar.search(
                self._images[k],
                self._usable[k],
                predicted,
                mean,
                functions[k],
                (float(start[0]), float(start[1])),
            )
            if match.found:
                matches[k] = match
        return matches

    def _misfit_sigma(self) -> Array:
        """Return what the shifts owe to the choice of the band: their change through another one.

        Structure of the sample that the expected image lacks pulls each band differently; the scatter of blocks does
        not show what is common to all of them.
        """
        functions = self._functions()
        narrow, wide = self._band.widths
        pattern = self._pattern
        self._band = BandPass(self._shape, (1.4 * narrow, 2.0 * wide if wide < _WIDE_PX else 0.5 * wide))
        self._filter()
        if pattern is not None:
            self._images -= pattern
        other = self._matched(self._build(functions), functions)
        self._band = BandPass(self._shape, (narrow, wide))
        both = np.array([k for k in self._matches if k in other], dtype=np.int64)
        out = np.zeros((self._n, 2))
        if both.size < 2:
            return out
        change = np.array([other[k].shift_px for k in both]) - self._shifts[both]
        change -= np.median(change, axis=0)
        contrast = functions[:, 1]
        for k in range(self._n):
            alike = np.argsort(np.abs(contrast[both] - contrast[k]))[:_ALIKE]
            out[k] = np.sqrt(np.mean(change[alike] ** 2, axis=0))
        return out

    def _build(self, functions: Array) -> Template:
        template = Template(self._shape, functions.shape[1])
        template.ridge = self._registrar.template.ridge
        previous = self._registrar.template
        same = (
            previous.n_frames > 0
            and previous.weights(np.zeros(previous._gram.shape[0]))[0].size == functions.shape[1]
        )
        matcher = self._registrar.matcher
        for k in sorted(self._matches):
            matcher.move(self._images[k], self._usable[k], self._shifts[k])
            expected = previous.predict(functions[k]) if same else previous.mean()
            template.add(matcher.moved, matcher.known, expected, functions[k])
        return template

    def _take_pattern_out(self, template: Template, functions: Array) -> None:
        """Find what stays on the detector while the sample moves, and subtract it from the band-passed frames."""
        # Frames that show the sample well: on the others the pattern itself may have moved the shift.
        contrast = np.abs(functions[:, 1])
        known = [k for k in sorted(self._matches) if contrast[k] >= _STRONG * contrast.max()]
        shifts = self._shifts[known]
        if len(known) < 8 or np.hypot(*shifts.std(axis=0)) < _LEAST_DRIFT_PX:
            return
        matcher = Matcher(self._shape)
        pattern = np.zeros(self._shape, np.float32)
        inside = np.ones(self._shape, np.uint8)
        mask = template.mask()
        for _ in range(_PATTERN_STEPS):
            halves = np.zeros((2, *self._shape), np.float32)
            counts = np.zeros((2, *self._shape), np.float32)
            for number, k in enumerate(known):
                # The sample as expected at this place of the detector.
                matcher.move(template.predict(functions[k]), inside * mask, -self._shifts[k])
                use = matcher.known * self._usable[k]
                halves[number % 2] += use * (self._images[k] - pattern - matcher.moved)
                counts[number % 2] += use
            means = halves / np.maximum(counts, 1.0)
            both = (counts > 0).all(axis=0)
            if both.sum() < 100:
                return
            a, b = means[0][both].astype(np.float64), means[1][both].astype(np.float64)
            common, power = float(a @ b), float(0.5 * (a @ a + b @ b))
            share = common / power if power > 0 else 0.0
            if share < _LEAST_REPEAT:
                break
            pattern += np.float32(_PATTERN_STEP * share) * np.where(
                both, 0.5 * (means[0] + means[1]), np.float32(0.0)
            )
            rebuilt = Template(self._shape, functions.shape[1])
            rebuilt.ridge = template.ridge
            for k in known:
                matcher.move(self._images[k] - pattern, self._usable[k], self._shifts[k])
                rebuilt.add(matcher.moved, matcher.known, template.predict(functions[k]), functions[k])
            template = rebuilt
        if pattern.any():
            self._images -= pattern
            self._pattern = pattern if self._pattern is None else self._pattern + pattern

    def _choose_widths(self, template: Template, functions: Array) -> bool:
        rings = SpectrumRings(self._shape)
        matcher, mask = self._registrar.matcher, template.mask()
        signal, residual = np.zeros(rings.frequency.size), np.zeros(rings.frequency.size)
        for k in self._matches:
            matcher.move(self._images[k], self._usable[k], self._shifts[k])
            predicted, _ = template.without(matcher.moved, matcher.known, functions[k])
            inside = mask * matcher.known
            signal += rings(predicted * inside)
            residual += rings((matcher.moved - predicted) * inside)
        signal = np.maximum(signal - residual / len(self._matches), 0.0)
        widths = choose_widths(rings.frequency, signal, residual, self._band.widths)
        changed = widths != self._band.widths
        if changed:
            self._band = BandPass(self._shape, widths)
        return changed

    # -- what passes work on -------------------------------------------------------------------------------

    def _filter(self) -> None:
        self._usable, self._pattern = [], None
        for k in range(self._n):
            self._images[k], usable = self._band(self._stack[k])
            self._usable.append(usable)

    def _contrasts(self) -> Array:
        return np.array([self._contrast(self._stack[k], self._shifts[k]) for k in range(self._n)])

    def _functions(self) -> Array:
        """Functions of energy of all frames."""
        contrast = self._contrasts()
        return np.stack(
            [
                self._energy_functions(float(e), float(c))
                for e, c in zip(self._energies, contrast, strict=True)
            ]
        )

    def _found(self) -> NDArray[np.bool_]:
        found = np.zeros(self._n, np.bool_)
        found[list(self._matches)] = True
        return found

    def _interpolated(self, k: int) -> Array:
        """Shift of a frame, between its neighbours where it has none of its own."""
        if k in self._matches:
            own: Array = self._shifts[k]
            return own
        known = np.array(sorted(self._matches))
        return np.array([np.interp(k, known, self._shifts[known, axis]) for axis in (0, 1)])

    # -- result --------------------------------------------------------------------------------------------

    def result(self) -> RegisteredStack:
        """Shifts relative to frame 0, frames resampled once, and what is doubtful."""
        outweighed, doubtful = self._hold_outweighed()
        found = self._found()
        places = np.stack([self._interpolated(k) for k in range(self._n)])
        # The whole is to be one step: a frame is turned about its middle first, and then found displaced.
        turned = np.stack(
            [
                linear_part(1.0 + m, math.degrees(turn)) @ place
                for (m, turn), place in zip(self._change, places, strict=True)
            ]
        )
        magnification = 1.0 + self._change[:, 0]
        rotation_deg = np.degrees(self._change[:, 1])
        is_turned = bool(self._change.any())
        shifts = turned - np.stack(
            [linear_part(1.0 + m, math.degrees(turn)) @ places[0] for m, turn in self._change]
        )
        sigma = np.full((self._n, 2), np.nan)
        misfit = self._misfit_sigma()
        for k, match in self._matches.items():
            sigma[k] = np.hypot(match.sigma_px, misfit[k])
        sigma[~found] = self._interpolation_sigma(places, found)
        sure = np.setdiff1d(np.flatnonzero(found), doubtful)
        for k in (*outweighed, *doubtful):
            # The sample goes on wandering from the nearest frame whose place is known.
            reach = self._interpolation_sigma(places, found) * math.sqrt(np.abs(sure - k).min())
            sigma[k] = reach if k in outweighed else np.hypot(sigma[k], reach)
        quality = np.array([self._matches[k].quality if k in self._matches else 0.0 for k in range(self._n)])
        about = places[found] - np.average(places[found], axis=0, weights=1.0 / sigma[found] ** 2)
        drift = is_turned or bool(
            np.mean((about / sigma[found]) ** 2) > _NO_DRIFT_CHI2
            and np.sqrt(np.mean(about**2)) > _NO_DRIFT_PX
        )
        if drift:
            aligned = np.empty_like(self._original)
            for k in range(self._n):
                aligned[k] = resample_frame(
                    self._original[k],
                    shifts[k],
                    magnification=float(magnification[k]),
                    rotation_deg=float(rotation_deg[k]),
                )
        else:
            aligned = self._original.copy()
        return RegisteredStack(
            optical_depth=aligned,
            shifts_px=shifts,
            shift_sigma_px=sigma,
            quality=quality,
            registered=found,
            drift_found=drift,
            widths_px=self._band.widths,
            warnings=tuple(self._warnings(found, places, outweighed, doubtful)),
            magnification=magnification,
            rotation_deg=rotation_deg,
        )

    def _interpolation_sigma(self, places: Array, found: NDArray[np.bool_]) -> Array:
        """How far a frame may be from the line between its neighbours: the scatter of those that are known."""
        steps = np.diff(places[found], axis=0)
        if not steps.size:
            return np.full(2, np.inf)
        scatter: Array = np.maximum(np.sqrt(np.mean(steps**2, axis=0)), 0.05)
        return scatter

    def _hold_outweighed(self) -> tuple[list[int], list[int]]:
        """Give up the shifts of frames that show more of what belongs to the detector than of the sample.

        Returns these frames, and those that show little more of the sample.
        """
        if self._pattern is None:
            return [], []
        inside = self._template.mask() > 0
        pattern = float(self._pattern[inside].std())
        functions = self._functions()
        contrast = np.abs(functions[:, 1])
        weak = {
            k: float(self._template.predict(functions[k])[inside].std()) / pattern
            for k in sorted(self._matches)
            if contrast[k] < _STRONG * contrast.max()
        }
        if not pattern > 0.0 or len(self._matches) - len(weak) < 2:
            return [], []
        held = [k for k, ratio in weak.items() if ratio < _OUTWEIGHED]
        for k in held:
            del self._matches[k]
        return held, [k for k, ratio in weak.items() if _OUTWEIGHED <= ratio < _NEARLY]

    def _warnings(
        self, found: NDArray[np.bool_], places: Array, outweighed: list[int], doubtful: list[int]
    ) -> list[str]:
        out = []
        if outweighed:
            out.append(
                f"{_shown(outweighed)} little of the sample beside a pattern that is fixed to the "
                "detector (dust, a flat field that does not match): the shift is that of the nearest other frames, and "
                "may be off by several times the usual step."
            )
        if doubtful:
            out.append(
                f"{_shown(doubtful)} little more of the sample than of a pattern that is fixed to the "
                "detector, which may pull on them: their sigma is that of the way from the nearest other frames."
            )
        other = ~found
        other[outweighed] = False
        if other.any():
            out.append(
                f"{_frames(np.flatnonzero(other))} could not be registered (no structure of the sample in it, or "
                "it is not where it can be expected): the shift is interpolated."
            )
        held = np.array([self._matches[k].held if k in self._matches else 1.0 for k in range(self._n)])
        left = np.flatnonzero(held < _LEAST_HELD)
        if left.size:
            out.append(
                f"in {_frames(left)} more than half of the structure is outside of the field: the sample leaves it, "
                "and what is seen of it there is little."
            )
        period = repeats_at(self._template.mean(), self._template.mask())
        if period is not None:
            out.append(
                f"the texture repeats itself every ({period[0]}, {period[1]}) px: a jump between two frames is known "
                "only up to multiples of that."
            )
        apart = self._apart()
        if apart > _APART_PX:
            out.append(
                f"parts of the field move apart by {apart:.1f} px (root mean square): one shift cannot serve for all "
                "of them."
            )
        return out

    def _apart(self) -> float:
        """Root mean square of what blocks move beside the common shift, by what neighbouring frames agree on."""
        product, weight = 0.0, 0.0
        for k in range(self._n - 1):
            if k not in self._matches or k + 1 not in self._matches:
                continue
            a, b = self._matches[k].block_shifts, self._matches[k + 1].block_shifts
            information = np.sqrt(np.maximum(a[:, 2] * b[:, 2], 0.0))
            product += float((information[:, None] * a[:, :2] * b[:, :2]).sum())
            weight += float(information.sum())
        return math.sqrt(max(product / weight, 0.0)) if weight > 0 else 0.0


def _mean_picture(stack: Frame) -> Frame:
    total, n = np.zeros(stack.shape[1:]), np.zeros(stack.shape[1:])
    for frame in stack:
        finite = np.isfinite(frame)
        total += np.where(finite, frame, 0.0)
        n += finite
    with np.errstate(invalid="ignore"):
        return (total / n).astype(np.float32)


def _shown(indices: list[int]) -> str:
    return f"{_frames(np.array(indices))} {'show' if len(indices) > 1 else 'shows'}"


def _frames(indices: NDArray[np.intp]) -> str:
    shown = ", ".join(str(int(k)) for k in indices[:8])
    more = f" and {indices.size - 8} more" if indices.size > 8 else ""
    return f"frame{'s' if indices.size > 1 else ''} {shown}{more}"
