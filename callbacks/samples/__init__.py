"""Many results of one sample, of several, and over time: pooled, compared, followed."""

from ._comparison import SampleComparison, SampleGroup, compare_samples
from ._comparison_picture import draw_samples
from ._series import SERIES_SCHEMA, follow_series, series_table
from ._series_picture import draw_series, draw_tracks
from ._stored_fields import stored_fields

__all__ = [
    "SERIES_SCHEMA",
    "SampleComparison",
    "SampleGroup",
    "compare_samples",
    "draw_samples",
    "draw_series",
    "draw_tracks",
    "follow_series",
    "series_table",
    "stored_fields",
]
