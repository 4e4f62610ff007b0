"""Plans that scan a focus over a sample."""

from ._coarse_fine import xrf_coarse_fine
from ._resume import RasterLedger, TakenLines, resume_xrf_map
from ._xrf import xrf_map

__all__ = ["RasterLedger", "TakenLines", "resume_xrf_map", "xrf_coarse_fine", "xrf_map"]
