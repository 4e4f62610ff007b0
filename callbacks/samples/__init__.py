"""Many results of one sample, of several, and over time: pooled, compared, followed."""

from ._comparison import SampleComparison, SampleGroup, compare_samples
from ._comparison_picture import draw_samples
from ._stored_fields import stored_fields

__all__ = [
    "SampleComparison",
    "SampleGroup",
    "compare_samples",
    "draw_samples",
    "stored_fields",
]
