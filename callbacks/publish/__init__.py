"""Raw runs and results into Tiled and files, and back."""

from ._exports import export_csv, export_nexus, export_stem, export_tiff, replacing
from ._following import FollowedMap, follow_soc
from ._one_grid import nearest_on_grid, open_soc_group
from ._publisher import SOCPublisher
from ._raw_writer import RawRunWriter
from ._reading import SOCVersion, open_soc, open_soc_table, soc_versions
from ._soft_series import export_soft_series
from ._spectrum_files import export_athena, export_campaign, export_xdi
from ._stored_result import StoredResult
from ._waiting import waiting_in

__all__ = [
    "FollowedMap",
    "RawRunWriter",
    "SOCPublisher",
    "SOCVersion",
    "StoredResult",
    "export_athena",
    "export_campaign",
    "export_csv",
    "export_nexus",
    "export_soft_series",
    "export_stem",
    "export_tiff",
    "export_xdi",
    "follow_soc",
    "nearest_on_grid",
    "open_soc",
    "open_soc_group",
    "open_soc_table",
    "replacing",
    "soc_versions",
    "waiting_in",
]
