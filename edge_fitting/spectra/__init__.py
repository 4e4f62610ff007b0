"""One spectrum from several sweeps of the energy axis, and what it says."""

from ._describe import EDGE_DEFINITIONS, EdgePosition, SpectrumFit, describe_spectrum
from ._first_shell import FirstShell, first_shell
from ._glitches import GLITCH_KINDS, Glitches, find_glitches
from ._sweep_records import MergedSweeps, Sweep, SweepAxis
from ._sweeps import foil_axis, merge_sweeps

__all__ = [
    "EDGE_DEFINITIONS",
    "GLITCH_KINDS",
    "EdgePosition",
    "FirstShell",
    "Glitches",
    "MergedSweeps",
    "SpectrumFit",
    "Sweep",
    "SweepAxis",
    "describe_spectrum",
    "find_glitches",
    "first_shell",
    "foil_axis",
    "merge_sweeps",
]
