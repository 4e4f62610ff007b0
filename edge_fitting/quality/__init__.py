"""Whether frames and pixels agree with the fit, judged by the noise that counting leaves."""

from ._frame_check import FrameCheck, FrameDoubt, check_frames
from ._judged_pixels import JudgedPixels, judge_all_pixels
from ._noise_model import NoiseModel, estimate_noise, linear_fit
from ._pixel_chi2 import expected_noise, frame_chi2
from ._sigma_scale import SigmaScale, sigma_scale
from ._spike_spectra import confirm_spikes
from ._spikes import SpikeFinder, Spikes, bright_pixels
from ._spread import pixels_with_edge, spread_pixels
from ._stray_light import StrayLight, estimate_background
from ._thick import thick_warning
from ._zingers import mask_zingers

__all__ = [
    "FrameCheck",
    "FrameDoubt",
    "JudgedPixels",
    "NoiseModel",
    "SigmaScale",
    "SpikeFinder",
    "Spikes",
    "StrayLight",
    "bright_pixels",
    "check_frames",
    "confirm_spikes",
    "estimate_background",
    "estimate_noise",
    "expected_noise",
    "frame_chi2",
    "judge_all_pixels",
    "linear_fit",
    "mask_zingers",
    "pixels_with_edge",
    "sigma_scale",
    "spread_pixels",
    "thick_warning",
]
