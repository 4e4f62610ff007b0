"""Documents in order: queues, routing, files and assets, stored runs, and the frames they hold."""

from ._closing import Closing
from ._document_publisher import DocumentPublisher
from ._document_streams import DocumentStream, open_stream
from ._document_types import AnyDocument, NamedDocument
from ._error_log import ErrorLog, FirstTime
from ._file_lock import FileLock, Owner, is_alive, others_alive, private_folder
from ._fluorescence_files import FluorescenceFile, read_fluorescence
from ._followed_runs import FollowedRuns
from ._foreign_layout import LAYOUT_KEY, ForeignLayout, FrameFile, planned_energies
from ._foreign_runs import ForeignRuns
from ._latest_wins import LaterError, LatestWins
from ._left_out import FrameLoss, LeftOut, Slot, energies_text
from ._outage import is_outage
from ._plain_documents import plain_document
from ._polling import Poller
from ._read_only import read_only
from ._reading import IMAGE_CHANNELS, Channel, Reading
from ._readings import FILE_TIMEOUT_S, RunReadings
from ._record_store import Record, RecordStore
from ._restarted_thread import RestartedThread, Throttle
from ._root_map import RootMap
from ._routing import DOCUMENT_NAMES, RunRouting
from ._run_contract import read_run
from ._saturation import SaturationWatch, saturated_pixels
from ._spool import Spool, document_nbytes, owner_of
from ._stored_run import documents_of
from ._worker import DocumentWorker

__all__ = [
    "DOCUMENT_NAMES",
    "FILE_TIMEOUT_S",
    "IMAGE_CHANNELS",
    "LAYOUT_KEY",
    "AnyDocument",
    "Channel",
    "Closing",
    "DocumentPublisher",
    "DocumentStream",
    "DocumentWorker",
    "ErrorLog",
    "FileLock",
    "FirstTime",
    "FluorescenceFile",
    "FollowedRuns",
    "ForeignLayout",
    "ForeignRuns",
    "FrameFile",
    "FrameLoss",
    "LaterError",
    "LatestWins",
    "LeftOut",
    "NamedDocument",
    "Owner",
    "Poller",
    "Reading",
    "Record",
    "RecordStore",
    "RestartedThread",
    "RootMap",
    "RunReadings",
    "RunRouting",
    "SaturationWatch",
    "Slot",
    "Spool",
    "Throttle",
    "document_nbytes",
    "documents_of",
    "energies_text",
    "is_alive",
    "is_outage",
    "open_stream",
    "others_alive",
    "owner_of",
    "plain_document",
    "planned_energies",
    "private_folder",
    "read_fluorescence",
    "read_only",
    "read_run",
    "saturated_pixels",
]
