"""What is fixed to the detector, told from the sample by the drift itself."""

from __future__ import annotations

import numpy as np

from ._band_pass import Array, Frame, Mask
from ._matching import Matcher
from ._template import Template

#: Frames with this share of the highest contrast show the sample well.
STRONG = 0.5
# Drift below this says nothing on what belongs to the detector and what to the sample.
_LEAST_DRIFT_PX = 0.7
# A pattern of the detector counts when this share of its power comes back in the other half of the frames.
_LEAST_REPEAT = 0.1
# Sample and pattern are found in turns, with steps longer than the residual.
_PATTERN_STEPS = 14
_PATTERN_STEP = 1.6
# A frame whose structure of the sample is less than this of that of the pattern is not told from it.
_OUTWEIGHED, _NEARLY = 1.0, 1.3


def find_detector_pattern(
    images: Frame, usable: list[Mask], shifts: Array, found: list[int], template: Template, functions: Array
) -> Frame | None:
    """Return what stays on the detector while the sample moves, of band-passed frames; None where that is nothing.

    `found` are the frames with a shift.
    """
    # Frames that show the sample well: on the others the pattern itself may have moved the shift.
    contrast = np.abs(functions[:, 1])
    shape = (images.shape[1], images.shape[2])
    known = [k for k in found if contrast[k] >= STRONG * contrast.max()]
    if len(known) < 8 or np.hypot(*shifts[known].std(axis=0)) < _LEAST_DRIFT_PX:
        return None
    matcher = Matcher(shape)
    pattern = np.zeros(shape, np.float32)
    inside = np.ones(shape, np.uint8)
    mask = template.mask()
    for _ in range(_PATTERN_STEPS):
        halves = np.zeros((2, *shape), np.float32)
        counts = np.zeros((2, *shape), np.float32)
        for number, k in enumerate(known):
            # The sample as expected at this place of the detector.
            matcher.move(template.predict(functions[k]), inside * mask, -shifts[k])
            use = matcher.known * usable[k]
            halves[number % 2] += use * (images[k] - pattern - matcher.moved)
            counts[number % 2] += use
        means = halves / np.maximum(counts, 1.0)
        both = (counts > 0).all(axis=0)
        if both.sum() < 100:
            return None
        a, b = means[0][both].astype(np.float64), means[1][both].astype(np.float64)
        common, power = float(a @ b), float(0.5 * (a @ a + b @ b))
        share = common / power if power > 0 else 0.0
        if share < _LEAST_REPEAT:
            break
        pattern += np.float32(_PATTERN_STEP * share) * np.where(
            both, 0.5 * (means[0] + means[1]), np.float32(0.0)
        )
        rebuilt = Template(shape, functions.shape[1])
        rebuilt.ridge = template.ridge
        for k in known:
            matcher.move(images[k] - pattern, usable[k], shifts[k])
            rebuilt.add(matcher.moved, matcher.known, template.predict(functions[k]), functions[k])
        template = rebuilt
    return pattern if pattern.any() else None


def outweighed_frames(
    pattern: Frame | None, template: Template, functions: Array, found: list[int]
) -> tuple[list[int], list[int]]:
    """Return the frames that show more of the pattern of the detector than of the sample, and those that nearly do."""
    if pattern is None:
        return [], []
    inside = template.mask() > 0
    of_pattern = float(pattern[inside].std())
    contrast = np.abs(functions[:, 1])
    weak = [k for k in found if contrast[k] < STRONG * contrast.max()]
    if not of_pattern > 0.0 or len(found) - len(weak) < 2:
        return [], []
    ratio = {k: float(template.predict(functions[k])[inside].std()) / of_pattern for k in weak}
    return (
        [k for k in weak if ratio[k] < _OUTWEIGHED],
        [k for k in weak if _OUTWEIGHED <= ratio[k] < _NEARLY],
    )
