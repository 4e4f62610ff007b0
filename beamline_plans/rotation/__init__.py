"""Plans of rotation series at one energy or several."""

from ._angles import interleaved_angles, spread_angles
from ._resume import resume_tomography
from ._scan import tomography_scan

__all__ = [
    "interleaved_angles",
    "resume_tomography",
    "spread_angles",
    "tomography_scan",
]
