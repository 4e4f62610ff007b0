"""At how many counts a camera is saturated, as its configuration says it."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["saturation_of"]

_COUNTS = ("saturation_counts", "count_cutoff", "countcutoff")
_BITS = ("bit_depth", "bit_depth_image", "bits_per_pixel", "bitdepth")
_POSSIBLE_BITS = range(4, 33)


def saturation_of(configuration: Mapping[str, Any]) -> float | None:
    """Return the counts from which on a camera is saturated; None where its configuration does not say.

    Parameters
    ----------
    configuration : mapping
        Values by key. The first key that ends in ``saturation_counts`` or ``count_cutoff``, or in ``bit_depth``,
        ``bit_depth_image`` or ``bits_per_pixel``, and has a positive number counts.
    """
    for key, value in configuration.items():
        name = str(key).lower()
        if name.endswith(_COUNTS) and (counts := _positive(value)) is not None:
            return counts
        if name.endswith(_BITS) and (bits := _positive(value)) in _POSSIBLE_BITS:
            return float(2 ** int(bits or 0) - 1)
    return None


def _positive(value: Any) -> float | None:
    if isinstance(value, bool | str) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
