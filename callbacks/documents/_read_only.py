"""Values that are handed to many: one who writes into them is told so, and changes nothing for the others."""

import copy
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NoReturn

import numpy as np


def read_only(value: Any) -> Any:
    """Return a value that cannot be written into.

    Arrays become views that are not writeable; dicts and lists become copies that refuse changes (and are
    dicts and lists still, so that they serialise and compare as before); data classes are gone through.

    Parameters
    ----------
    value : object
        What the caller keeps no other use of than reading.
    """
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            return value
        view = value.view()
        view.flags.writeable = False
        return view
    if isinstance(value, ReadOnlyDict | ReadOnlyList):
        return value
    if isinstance(value, Mapping):
        return ReadOnlyDict({key: read_only(held) for key, held in value.items()})
    if isinstance(value, list):
        return ReadOnlyList(read_only(held) for held in value)
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(read_only(held) for held in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{held.name: read_only(getattr(value, held.name)) for held in fields(value)})
    return value


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("results of the analysis are read-only, as others read them too; change a copy.deepcopy")


class ReadOnlyDict(dict[Any, Any]):
    """A dict that refuses changes; its copies, pickled ones too, are plain."""

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {key: copy.deepcopy(value, memo) for key, value in self.items()}


class ReadOnlyList(list[Any]):
    """A list that refuses changes; its copies, pickled ones too, are plain."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [copy.deepcopy(value, memo) for value in self]
