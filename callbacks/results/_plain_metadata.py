"""Metadata that are the same after a way over the network or the disk as before."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from callbacks.documents import read_only
from callbacks.errors import CallbackError


def plain_metadata(value: Any) -> Any:
    """Return a value as what JSON holds: mappings, lists, text, finite numbers, True, False and None.

    A number that is not finite becomes None.

    Raises
    ------
    CallbackError
        It holds something else, such as a device.
    """
    if isinstance(value, _PLAIN):
        return value
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain_metadata(held) for key, held in value.items()}
    if hasattr(value, "tolist"):
        return plain_metadata(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain_metadata(held) for held in value]
    raise CallbackError(f"a {type(value).__name__} ({value!r:.80}) is no metadata of a result")


# Values that have come this way already.
_PLAIN = (type(read_only({})), type(read_only([])))
