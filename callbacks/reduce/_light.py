"""Whether there is light in a frame: a closed shutter, a beam trip or a lost frame leave none."""

from typing import Any

import numpy as np
import numpy.typing as npt

_SAMPLED = 16_384
_SIGNIFICANT = 4.0
# Fewer pixels do not tell a mean from noise.
_FEW_PIXELS = 64
# The thinnest part of a sample that can be fitted lets much more through than this part of the open beam.
_LEAST_TRANSMISSION = 1e-3
# Pixels with less of the open beam than this belong to no field of view.
_FIELD = 0.05

LEAST_OF_BRIGHTEST = 0.01
"""A frame with less than this part of the light of the brightest ones, at the same dose, has none of its own."""

Image = npt.NDArray[Any]


def sampled(size: int) -> slice:
    """Return the pixels (of the flattened frame) that are looked at."""
    step = max(1, size // _SAMPLED)
    return slice(None, None, step + 1 - step % 2)  # an odd step does not stay in one column


def open_beam_light(image: Image, dark: Image) -> float:
    """Return the mean counts of an open-beam frame above its dark, 0 where that is none.

    Part of the field may be dark, or its dark too bright: what counts is whether there is light at all.
    """
    pixels = sampled(image.size)
    light = image.reshape(-1)[pixels].astype(np.float64) - dark.reshape(-1)[pixels]
    light = light[np.isfinite(light)]
    if not light.size:
        return 0.0
    high = float(np.percentile(light, 90))
    noise = float(np.median(np.abs(np.diff(light)))) if light.size > 1 else 0.0
    if _stands_out(light) or (light.size >= _FEW_PIXELS and high > _SIGNIFICANT * noise and high > 0):
        return max(float(light.mean()), float(light[light > 0].sum()) / light.size)
    return 0.0


def transmission(image: Image, dark: Image, flat: Image, scale: float) -> float:
    """Return how much of the open beam a sample frame shows on average, 0 where it holds no light.

    Parameters
    ----------
    image, dark, flat : ndarray, (rows, cols)
        Counts, mean dark, and open beam above its dark.
    scale : float
        Dose of the flat over that of the frame.
    """
    pixels = sampled(image.size)
    beam = flat.reshape(-1)[pixels].astype(np.float64)
    light = image.reshape(-1)[pixels].astype(np.float64) - dark.reshape(-1)[pixels]
    good = np.isfinite(light) & np.isfinite(beam) & (beam > 0)
    if good.any():
        good &= beam > _FIELD * np.percentile(beam[good], 95)
    if not good.any():
        return 1.0 if np.isposinf(light).any() else 0.0  # at the camera's limit is not without light
    seen = light[good]
    passed = float(seen.mean() / beam[good].mean()) * scale
    return passed if _stands_out(seen) and passed > _LEAST_TRANSMISSION else 0.0


def _stands_out(light: npt.NDArray[np.float64]) -> bool:
    """Whether the mean is above zero by more than the noise explains."""
    mean = float(light.mean())
    if light.size < _FEW_PIXELS:
        return mean > 0
    return bool(mean > _SIGNIFICANT * float(light.std()) / np.sqrt(light.size))
