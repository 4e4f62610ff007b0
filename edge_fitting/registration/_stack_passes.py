"""Passes of the registration of a stack: one as frames would arrive, then each frame against all others."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_fitting.references import ReferenceSeries

from ._band_pass import Array, BandPass, Frame, Mask, SpectrumRings, choose_widths
from ._contrast import FieldContrast
from ._detector_pattern import STRONG, find_detector_pattern
from ._drift_tracker import EnergyFunctions, Registrar
from ._matching import Match
from ._resample import resample_frame
from ._similarity import find_similarity
from ._template import Template

_MOST_PASSES = 6
_AT_REST_PX = 0.01
# A band this wide is compared with a narrower one, not a wider one.
_WIDE_PX = 5.0
# Times that magnification and rotation are looked for; once they are taken out, blocks move apart by less than this
# share of what they did.
_MOST_TURNS = 3
_LESS_APART = 0.7
# Frames of about the same contrast share what misfit does to them.
_ALIKE = 7
_FEWEST_WEAK = 3
# Noise finds itself in noise: anywhere in the field, with correlations below this in the better half of the frames.
_NOISE_QUALITY = 0.4
_NOISE_STEP_PX = 2.0
_NOISE_STEPS = 0.15
_NOISE_SIGMA_PX = 1.0
_FEWEST_FOUND = 0.25


class StackPasses:
    """Passes over a stack, and their state.

    Attributes
    ----------
    original : ndarray of float32, shape (n, rows, cols)
        The frames as they were given.
    change : ndarray, shape (n, 2)
        What was taken out of their magnification, and of their rotation (radians).
    shifts : ndarray, shape (n, 2)
        Displacement of each frame with a match.
    matches : dict of int to Match
        Of the frames that were found.
    template : Template
        The sample as all frames show it, after `refine`.
    pattern : ndarray or None
        What is fixed to the detector, band-passed.
    band : BandPass
        Of the widths that the data asked for.
    """

    def __init__(self, energies: Array, stack: Frame, references: ReferenceSeries | None) -> None:
        self.energies = energies
        self._stack = self.original = stack
        self.change = np.zeros((energies.size, 2))  # of the magnification, and rotation in radians
        self.n = energies.size
        self.shape = (stack.shape[1], stack.shape[2])
        self._energy_functions = EnergyFunctions(references)
        self.band = BandPass(self.shape)
        self.pattern: Frame | None = None
        self._registrar = Registrar(self.shape, self._energy_functions.n)
        self.matches: dict[int, Match] = {}
        self.shifts = np.zeros((self.n, 2))
        self._contrast = FieldContrast(_mean_picture(stack))
        self._images: Frame = np.empty_like(stack)
        self._usable: list[Mask] = []
        self._filter()

    # -- passes --------------------------------------------------------------------------------------------

    def first_pass(self) -> bool:
        """Register frame after frame, from the end that shows more; False where nothing is found."""
        contrast = self._contrasts()
        half = max(1, self.n // 4)
        backwards = np.abs(contrast[-half:]).mean() > np.abs(contrast[:half]).mean()
        order = list(range(self.n))[:: -1 if backwards else 1]
        strong = np.abs(contrast) >= STRONG * np.abs(contrast).max()
        # Until they are known, what all frames that show little of the sample have in common stands for what belongs
        # to the detector: of the sample it holds a faint and blurred part.
        weak_frames = np.flatnonzero(~strong)
        common = (
            self._images[weak_frames].mean(axis=0)
            if weak_frames.size >= _FEWEST_WEAK
            else np.zeros(self.shape, np.float32)
        )
        self._images -= common
        self._follow([k for k in order if strong[k]])
        self._images += common
        # What belongs to the detector is found on frames that show the sample well, before it can pull on the others.
        if len(self.matches) >= 2:
            functions = self.functions()
            self._take_pattern_out(self._build(functions), functions)
            self._registrar.template = self._build(functions)
        weak = [k for k in order if not strong[k]]
        if weak and self.matches:
            nearest = min(self.matches, key=lambda k: abs(k - weak[0]))
            self._registrar.last_px = self.shifts[nearest].copy()
        self._follow(weak)
        return len(self.matches) >= 2

    def _follow(self, order: list[int]) -> None:
        """Register frames one after the other, each from the last shift."""
        registrar = self._registrar
        alone = -1
        for k in order:
            image, usable = self._images[k], self._usable[k]
            functions = self._energy_functions(
                float(self.energies[k]), self._contrast(self._stack[k], registrar.last_px)
            )
            if registrar.template.n_frames == 0:
                if usable.any() and image.any():
                    registrar.begin(image, usable, functions, registrar.last_px)
                    self.shifts[k] = registrar.last_px
                    alone = k
                continue
            match = registrar.register(image, usable, functions)
            if match.found:
                if registrar.template.n_frames == 2 and alone >= 0:
                    self.matches[alone] = match
                self.matches[k] = match
                self.shifts[k] = match.shift_px
            elif registrar.template.n_frames == 1:
                registrar.restart()
                registrar.begin(image, usable, functions, registrar.last_px)
                self.shifts[k] = registrar.last_px
                alone = k

    def refine(self) -> None:
        """Register each frame against all others until the shifts are at rest."""
        for number in range(_MOST_PASSES):
            functions = self.functions()
            template = self._build(functions)
            if number in (0, 1):
                if self._choose_widths(template, functions):
                    self._filter()
                    template = self._build(functions)
                self._take_pattern_out(template, functions)
                template = self._build(functions)
            before = self.shifts.copy()
            self._match_all(template, functions)
            known = self.found()
            if number > 1 and known.any() and np.abs(self.shifts - before)[known].max() < _AT_REST_PX:
                break
        self.template = template

    def is_noise(self, sigma_px: Array | None = None) -> bool:
        """Whether what was found jumps about the field and resembles nothing much: it is no sample."""
        known = sorted(self.matches)
        if len(known) < max(2.0, _FEWEST_FOUND * self.n):
            return True
        steps = np.hypot(*np.diff(self.shifts[known], axis=0).T)
        quality = np.sort([self.matches[k].quality for k in known])[len(known) // 2 :]
        jumps = np.mean(steps > _NOISE_STEP_PX) > _NOISE_STEPS
        vague = sigma_px is not None and np.median(sigma_px) > _NOISE_SIGMA_PX
        return bool((jumps or vague) and np.median(quality) < _NOISE_QUALITY)

    def follow_optics(self) -> None:
        """Take a change of magnification and rotation out of what is compared, where the blocks of the field show one.

        It stays when the blocks agree better with each other then: parts that move on their own do not.
        """
        before = blocks_apart(self.matches, self.n)
        kept = (self._stack, self.change, dict(self.matches), self.shifts.copy(), self.band)
        for _ in range(_MOST_TURNS):
            found = find_similarity(self.matches, self.energies, self.shape, self._registrar.matcher.block_px)
            if not found.is_significant:
                break
            self.change = self.change + found.change
            self._stack = np.stack(
                [
                    resample_frame(
                        self.original[k], (0.0, 0.0), magnification=1.0 + m, rotation_deg=math.degrees(turn)
                    )
                    for k, (m, turn) in enumerate(self.change)
                ]
            )
            self._filter()
            self.refine()
        if self.change.any() and not blocks_apart(self.matches, self.n) < _LESS_APART * before:
            self._stack, self.change, self.matches, self.shifts, self.band = kept
            self._filter()
            self.refine()

    def _match_all(self, template: Template, functions: Array) -> None:
        matches = self._matched(template, functions)
        for k, match in matches.items():
            self._registrar.note_noise(match, functions[k])
        if len(matches) >= 2:
            self.matches = matches
        for k, match in self.matches.items():
            self.shifts[k] = match.shift_px

    def _matched(self, template: Template, functions: Array) -> dict[int, Match]:
        """Match of each frame against all others, where it is found."""
        registrar = self._registrar
        template.ridge = registrar.template.ridge
        registrar.template = template
        matches: dict[int, Match] = {}
        for k in range(self.n):
            start = self.interpolated(k)
            if k in self.matches:
                registrar.matcher.move(self._images[k], self._usable[k], self.shifts[k])
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

    def misfit_sigma(self) -> Array:
        """Return what the shifts owe to the choice of the band: their change through another one.

        Structure of the sample that the expected image lacks pulls each band differently; the scatter of blocks does
        not show what is common to all of them.
        """
        functions = self.functions()
        narrow, wide = self.band.widths
        pattern = self.pattern
        self.band = BandPass(self.shape, (1.4 * narrow, 2.0 * wide if wide < _WIDE_PX else 0.5 * wide))
        self._filter()
        if pattern is not None:
            self._images -= pattern
        other = self._matched(self._build(functions), functions)
        self.band = BandPass(self.shape, (narrow, wide))
        both = np.array([k for k in self.matches if k in other], dtype=np.int64)
        out = np.zeros((self.n, 2))
        if both.size < 2:
            return out
        change = np.array([other[k].shift_px for k in both]) - self.shifts[both]
        change -= np.median(change, axis=0)
        contrast = functions[:, 1]
        for k in range(self.n):
            alike = np.argsort(np.abs(contrast[both] - contrast[k]))[:_ALIKE]
            out[k] = np.sqrt(np.mean(change[alike] ** 2, axis=0))
        return out

    def _build(self, functions: Array) -> Template:
        template = Template(self.shape, functions.shape[1])
        template.ridge = self._registrar.template.ridge
        previous = self._registrar.template
        same = (
            previous.n_frames > 0
            and previous.weights(np.zeros(previous._gram.shape[0]))[0].size == functions.shape[1]
        )
        matcher = self._registrar.matcher
        for k in sorted(self.matches):
            matcher.move(self._images[k], self._usable[k], self.shifts[k])
            expected = previous.predict(functions[k]) if same else previous.mean()
            template.add(matcher.moved, matcher.known, expected, functions[k])
        return template

    def _take_pattern_out(self, template: Template, functions: Array) -> None:
        pattern = find_detector_pattern(
            self._images, self._usable, self.shifts, sorted(self.matches), template, functions
        )
        if pattern is not None:
            self._images -= pattern
            self.pattern = pattern if self.pattern is None else self.pattern + pattern

    def _choose_widths(self, template: Template, functions: Array) -> bool:
        rings = SpectrumRings(self.shape)
        matcher, mask = self._registrar.matcher, template.mask()
        signal, residual = np.zeros(rings.frequency.size), np.zeros(rings.frequency.size)
        for k in self.matches:
            matcher.move(self._images[k], self._usable[k], self.shifts[k])
            predicted, _ = template.without(matcher.moved, matcher.known, functions[k])
            inside = mask * matcher.known
            signal += rings(predicted * inside)
            residual += rings((matcher.moved - predicted) * inside)
        signal = np.maximum(signal - residual / len(self.matches), 0.0)
        widths = choose_widths(rings.frequency, signal, residual, self.band.widths)
        changed = widths != self.band.widths
        if changed:
            self.band = BandPass(self.shape, widths)
        return changed

    def give_up(self, frames: list[int]) -> None:
        """Take the matches of some frames away: their shift follows from the others."""
        for k in frames:
            del self.matches[k]

    # -- what passes work on -------------------------------------------------------------------------------

    def _filter(self) -> None:
        self._usable, self.pattern = [], None
        for k in range(self.n):
            self._images[k], usable = self.band(self._stack[k])
            self._usable.append(usable)

    def _contrasts(self) -> Array:
        return np.array([self._contrast(self._stack[k], self.shifts[k]) for k in range(self.n)])

    def functions(self) -> Array:
        """Functions of energy of all frames."""
        contrast = self._contrasts()
        return np.stack(
            [self._energy_functions(float(e), float(c)) for e, c in zip(self.energies, contrast, strict=True)]
        )

    def found(self) -> NDArray[np.bool_]:
        """Return which frames have a match."""
        found = np.zeros(self.n, np.bool_)
        found[list(self.matches)] = True
        return found

    def interpolated(self, k: int) -> Array:
        """Shift of a frame, between its neighbours where it has none of its own."""
        if k in self.matches:
            own: Array = self.shifts[k]
            return own
        known = np.array(sorted(self.matches))
        return np.array([np.interp(k, known, self.shifts[known, axis]) for axis in (0, 1)])


def blocks_apart(matches: dict[int, Match], n: int) -> float:
    """Root mean square of what blocks move beside the common shift, by what neighbouring frames agree on."""
    product, weight = 0.0, 0.0
    for k in range(n - 1):
        if k not in matches or k + 1 not in matches:
            continue
        a, b = matches[k].block_shifts, matches[k + 1].block_shifts
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
