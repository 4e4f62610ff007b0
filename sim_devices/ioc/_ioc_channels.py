"""Process variables of the simulated IOC: one factory per kind, each with an optional hook on writing."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from scan_contract import optional_import

with optional_import("sim", "simulated control systems"):
    from caproto import ChannelChar, ChannelDouble, ChannelEnum, ChannelInteger, ChannelString

__all__ = ["Put", "choice", "floating", "integer", "text", "waveform", "word"]

Put = Callable[[Any, Any], Awaitable[Any]]
"""Called as ``await put(channel, value)`` before a value is taken over; may return another, or raise SkipWrite."""

_LONGEST_TEXT = 512


class _Hooked:
    """Channel that asks a hook before it takes a value over."""

    def __init__(self, *, put: Put | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._put = put

    async def verify_value(self, data: Any) -> Any:
        checked = await super().verify_value(data)  # type: ignore[misc]
        if self._put is None:
            return checked
        answer = await self._put(self, _scalar(checked))
        return checked if answer is None else answer


class _Double(_Hooked, ChannelDouble):
    pass


class _Integer(_Hooked, ChannelInteger):
    pass


class _Enum(_Hooked, ChannelEnum):
    pass


class _Char(_Hooked, ChannelChar):
    pass


class _String(_Hooked, ChannelString):
    pass


def _scalar(value: Any) -> Any:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return value
    return value[0] if len(value) == 1 else value


def floating(
    value: float = 0.0,
    put: Put | None = None,
    *,
    units: str = "",
    precision: int = 3,
    limits: tuple[float, float] = (0.0, 0.0),
) -> Any:
    """Floating-point number; equal limits mean none."""
    low, high = limits
    return _Double(
        value=float(value),
        put=put,
        units=units,
        precision=precision,
        lower_ctrl_limit=low,
        upper_ctrl_limit=high,
    )


def integer(value: int = 0, put: Put | None = None, *, units: str = "") -> Any:
    """Integer of 32 bits."""
    return _Integer(value=int(value), put=put, units=units)


def choice(value: str, choices: Sequence[str], put: Put | None = None) -> Any:
    """One of a few words."""
    return _Enum(value=value, enum_strings=tuple(choices), put=put)


def text(value: str = "", put: Put | None = None) -> Any:
    """Text as areaDetector keeps it: an array of characters."""
    return _Char(value=value, max_length=_LONGEST_TEXT, put=put)


def word(value: str = "", put: Put | None = None) -> Any:
    """Text of at most 39 characters."""
    return _String(value=value, put=put)


def waveform(length: int) -> Any:
    """Array of integers."""
    return ChannelInteger(value=[0] * length, max_length=length)
