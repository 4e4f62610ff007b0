"""Whether frames and pixels agree with the fit, judged by the noise that counting leaves."""

from ._frame_check import FrameCheck, FrameDoubt, check_frames
from ._noise_model import NoiseModel, estimate_noise
from ._pixel_chi2 import frame_chi2, pixel_chi2
from ._sigma_scale import scale_sigma
from ._spread import spread_pixels
from ._thick import thick_warning
from ._zingers import mask_zingers

__all__ = [
    "FrameCheck",
    "FrameDoubt",
    "NoiseModel",
    "check_frames",
    "estimate_noise",
    "frame_chi2",
    "mask_zingers",
    "pixel_chi2",
    "scale_sigma",
    "spread_pixels",
    "thick_warning",
]
