"""The imaging optics: how far the image moves, and how sharp it is."""

import math

from ._diffraction import focal_length_mm, wavelength_nm
from ._exposure import Exposure
from ._settings import OpticsSettings

__all__ = ["defocus_px", "focus_mm", "image_shift_px", "margin_px", "rotation_deg"]

# From the edge that is in focus, no scan goes further than this.
_FARTHEST_EV = 800.0


def margin_px(optics: OpticsSettings, shape: tuple[int, int], pixel_size_nm: float) -> int:
    """Sample beyond the field of view, for drift and magnification to bring in.

    The same for all but the wildest knobs, so that turning one leaves the sample as it was.
    """
    reach = 1.5 * (optics.drift_nm + optics.runout_nm) / pixel_size_nm
    reach += abs(optics.magnification_per_ev) * _FARTHEST_EV * max(shape) / 2
    reach += math.radians(optics.rotation_deg) * max(shape) / 2
    return max(math.ceil(reach) + 4, max(shape) // 16, 8)


def image_shift_px(
    optics: OpticsSettings,
    pixel_size_nm: float,
    clock_s: float,
    true_ev: float,
    stage_um: tuple[float, float],
) -> tuple[float, float]:
    """Displacement of the image: wandering with time, runout with energy, and the stage."""
    turn = 2 * math.pi * clock_s / optics.drift_period_s
    wander = (
        math.sin(turn) + 0.4 * math.sin(2.7 * turn),
        math.sin(0.8 * turn) - 0.3 * math.sin(3.1 * turn),
    )
    phase = 2 * math.pi * (true_ev - optics.focus_ev) / 60.0
    runout = (math.sin(phase), 1.0 - math.cos(phase))
    y, x = (
        (optics.drift_nm * w + optics.runout_nm * r + 1e3 * s) / pixel_size_nm
        for w, r, s in zip(wander, runout, stage_um, strict=True)
    )
    return y, x


def rotation_deg(optics: OpticsSettings, clock_s: float) -> float:
    """Angle by which the sample has turned, counter-clockwise as seen."""
    return optics.rotation_deg * math.sin(0.9 * 2 * math.pi * clock_s / optics.drift_period_s)


def focus_mm(optics: OpticsSettings, true_ev: float) -> float:
    """Where the zone plate has to be for a sharp image."""
    here, there = (
        focal_length_mm(e, optics.zone_plate_um, optics.outermost_zone_nm) for e in (true_ev, optics.focus_ev)
    )
    return optics.focus_mm + (here - there) * (1.0 + 1.0 / optics.magnification)


def defocus_px(optics: OpticsSettings, pixel_size_nm: float, exposure: Exposure) -> float:
    """Return the standard deviation of the disc into which a point is spread out of focus."""
    aperture = wavelength_nm(exposure.true_ev) / (2.0 * optics.outermost_zone_nm)
    return 0.5 * abs(exposure.defocus_um) * aperture * 1e3 / pixel_size_nm
