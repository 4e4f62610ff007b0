"""Linear combinations of references."""

from ._end_members import EndMemberFit
from ._lcf import LinearCombinationMaps, fit_lcf
from ._learn import LearnedReferences, learn_references

__all__ = [
    "EndMemberFit",
    "LearnedReferences",
    "LinearCombinationMaps",
    "fit_lcf",
    "learn_references",
]
