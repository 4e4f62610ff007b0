"""Measurements in the browser: the running and the past ones of a Tiled server, and the spectrum of any region.

Everything is read from Tiled; nothing but regions is written. It comes with the extra ``monitor``.
"""

from ._monitor import Monitor, MonitorProcess, check_packages
from ._region_table import stored_regions
from ._regions import Region, RegionError

__all__ = ["Monitor", "MonitorProcess", "Region", "RegionError", "check_packages", "stored_regions"]
