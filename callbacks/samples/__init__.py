"""Many results of one sample, of several, and over time: pooled, compared, followed."""

from ._bulk import BulkComparison, MeanSpectrum, compare_with_bulk, draw_bulk, mean_spectrum
from ._charge import CellCapacity, ChargeCalibration, calibrate_by_charge, draw_charge, join_charge
from ._comparison import SampleComparison, SampleGroup, compare_samples
from ._comparison_picture import draw_samples
from ._cycler import CyclerData, read_cycler
from ._mosaic import MOSAIC_SCHEMA, stitch_mosaic
from ._mosaic_picture import draw_mosaic
from ._series import SERIES_SCHEMA, follow_series, series_table
from ._series_picture import draw_series, draw_tracks, time_unit
from ._stored_fields import stored_fields
from ._volume import VOLUME_SCHEMA, analyse_volume
from ._volume_picture import draw_volume

__all__ = [
    "MOSAIC_SCHEMA",
    "SERIES_SCHEMA",
    "VOLUME_SCHEMA",
    "BulkComparison",
    "CellCapacity",
    "ChargeCalibration",
    "CyclerData",
    "MeanSpectrum",
    "SampleComparison",
    "SampleGroup",
    "analyse_volume",
    "calibrate_by_charge",
    "compare_samples",
    "compare_with_bulk",
    "draw_bulk",
    "draw_charge",
    "draw_mosaic",
    "draw_samples",
    "draw_series",
    "draw_tracks",
    "draw_volume",
    "follow_series",
    "join_charge",
    "mean_spectrum",
    "read_cycler",
    "series_table",
    "stitch_mosaic",
    "stored_fields",
    "time_unit",
]
