"""What decides a frame."""

from dataclasses import dataclass

__all__ = ["Exposure"]


@dataclass(frozen=True)
class Exposure:
    """Everything that decides a frame, fixed when the exposure begins.

    Attributes
    ----------
    number : int
        Frames begun so far, this one included.
    exposure_s : float
        Duration.
    true_ev : float
        Photon energy of the beam.
    intensity : float
        Beam relative to nominal; 0 during a trip.
    shutter_open, sample_in : bool
        What is in the beam.
    shift_px : tuple of float
        Displacement (rows, columns) of the image of the sample.
    magnification : float
        Magnification relative to nominal.
    rotation_deg : float
        Angle by which the image is turned about its middle, counter-clockwise as seen, before it is displaced.
    defocus_um : float
        Distance of the zone plate from where the image is sharp.
    """

    number: int
    exposure_s: float
    true_ev: float
    intensity: float
    shutter_open: bool
    sample_in: bool
    shift_px: tuple[float, float]
    magnification: float
    rotation_deg: float
    defocus_um: float
