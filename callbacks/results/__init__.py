"""What a result of a technique holds: schemas that figures, Tiled, exports and readers take everything from."""

from ._alarms import Alarm, AlarmLog
from ._kept_variables import KeptVariable, dataset_of, first_of, related, variables_from, variables_of
from ._plain_metadata import plain_metadata
from ._result_schema import Field, ResultSchema, Role
from ._sample_name import sample_name
from ._sink import CalledSink, DeferredResult, Sink, result_key
from ._software import software_versions
from ._store_keys import ALARMS, BY_STORE, CONTENTS, COPYING, CURRENT, RESERVED_NAMES, VERSION, WRITTEN_BY

__all__ = [
    "ALARMS",
    "BY_STORE",
    "CONTENTS",
    "COPYING",
    "CURRENT",
    "RESERVED_NAMES",
    "VERSION",
    "WRITTEN_BY",
    "Alarm",
    "AlarmLog",
    "CalledSink",
    "DeferredResult",
    "Field",
    "KeptVariable",
    "ResultSchema",
    "Role",
    "Sink",
    "dataset_of",
    "first_of",
    "plain_metadata",
    "related",
    "result_key",
    "sample_name",
    "software_versions",
    "variables_from",
    "variables_of",
]
