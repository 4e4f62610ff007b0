"""Linear combinations of references."""

from ._end_members import EndMemberFit
from ._lcf import LinearCombinationMaps, fit_lcf

__all__ = [
    "EndMemberFit",
    "LinearCombinationMaps",
    "fit_lcf",
]
