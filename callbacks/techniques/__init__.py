"""What each technique makes of corrected frames."""

from ._depth_frames import DepthFrame, DepthFrames, RegionSpectrum
from ._depth_stack import StackedScan
from ._full_field import FULL_FIELD
from ._full_field_result import FULL_FIELD_SCHEMA, has_value, result_of
from ._live_soc import LiveSOC
from ._live_spectrum import LiveSpectrum
from ._soft_images_result import SOFT_IMAGES_SCHEMA
from ._soft_xas import SOFT_XAS
from ._soft_xas_result import SOFT_XAS_SCHEMA
from ._stack_fit import StackFit, Tile
from ._stored_scan import provenance_of_scan, read_scan
from ._stxm import STXM
from ._technique import Estimator, EstimatorOptions, RunState, Technique
from ._tomography import TOMOGRAPHY, TomographySettings, tomography_technique
from ._tomography_result import TOMOGRAPHY_SCHEMA
from ._update import FrameSummary, SOCUpdate
from ._xas import XAS
from ._xas_result import XAS_SCHEMA
from ._xpeem import XPEEM
from ._xrf import XRF
from ._xrf_file import fit_fluorescence, write_fluorescence_table

__all__ = [
    "FULL_FIELD",
    "FULL_FIELD_SCHEMA",
    "SOFT_IMAGES_SCHEMA",
    "SOFT_XAS",
    "SOFT_XAS_SCHEMA",
    "STXM",
    "TOMOGRAPHY",
    "TOMOGRAPHY_SCHEMA",
    "XAS",
    "XAS_SCHEMA",
    "XPEEM",
    "XRF",
    "DepthFrame",
    "DepthFrames",
    "Estimator",
    "EstimatorOptions",
    "FrameSummary",
    "LiveSOC",
    "LiveSpectrum",
    "RegionSpectrum",
    "RunState",
    "SOCUpdate",
    "StackFit",
    "StackedScan",
    "Technique",
    "Tile",
    "TomographySettings",
    "fit_fluorescence",
    "has_value",
    "provenance_of_scan",
    "read_scan",
    "result_of",
    "tomography_technique",
    "write_fluorescence_table",
]
