"""Light beside the sample, subtracted from frames."""

from dataclasses import replace

import numpy as np

from edge_fitting import StrayLight, without_stray_light

from ._corrected_frame import CorrectedFrame
from ._reducer import Reduced

NOTE = "stray_light"


def take_out(reduced: Reduced, light: StrayLight | None) -> Reduced:
    """Return a frame without the light beside the sample, and a note of that; the same frame where there is none.

    Parameters
    ----------
    reduced : Reduced
        The frame as it came.
    light : StrayLight or None
        Part of the open beam.
    """
    if light is None:
        return reduced
    values, share = reduced.values, light.share
    if isinstance(values, CorrectedFrame):
        # T = (image - dark) / flat * scale: what is subtracted from T is more of a dark.
        dark = (values.dark + np.float32(share / values.scale) * values.flat).astype(np.float32)
        values = replace(values, dark=dark, scale=values.scale / (1.0 - share))
    else:
        values = without_stray_light(values, share)
    return note_taken_out(replace(reduced, values=values), light)


def note_taken_out(reduced: Reduced, light: StrayLight) -> Reduced:
    """Return a frame whose values have lost the light beside the sample with a note of that."""
    sample = without_stray_light(np.asarray(reduced.notes["sample"], np.float32), light.share)
    kept = np.where(np.isfinite(sample), sample, np.float32(np.nan))
    return replace(reduced, notes={**reduced.notes, NOTE: light, "sample": kept})
