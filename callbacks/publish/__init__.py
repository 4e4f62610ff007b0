"""Raw runs and results into Tiled and files, and back."""

from ._containers import container_name
from ._exports import export_csv, export_nexus, export_tiff
from ._following import FollowedMap, follow_soc
from ._publisher import SOCPublisher
from ._raw_writer import RawRunWriter
from ._reading import open_soc, open_soc_table
from ._waiting import waiting_in

__all__ = [
    "FollowedMap",
    "RawRunWriter",
    "SOCPublisher",
    "container_name",
    "export_csv",
    "export_nexus",
    "export_tiff",
    "follow_soc",
    "open_soc",
    "open_soc_table",
    "waiting_in",
]
