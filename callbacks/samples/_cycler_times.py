"""Times of the text exports of cyclers: since the start of the test, of the day, and since the epoch."""

import re
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from callbacks.errors import ReadingError

from ._cycler_columns import CyclerTable

Array = npt.NDArray[np.float64]

_MOST_DATES = 1000
# Lines may be written a little out of order; times of steps begin again.
_MOST_BACK_S = 1.0
_EARLIEST_S, _LATEST_S = 315_532_800.0, 4_102_444_800.0  # 1980 to 2100
_PAUSED_S = 60.0
_STARTED = re.compile(r"Acquisition started on\s*:\s*(\S.*)", re.IGNORECASE)
_DURATION = r"^(?:(\d+)\s*(?:d|days?)?[\s.:,-]\s*)?(\d+):(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)$"
_DATE = re.compile(
    r"(\d{1,4})([./-])(\d{1,2})[./-](\d{1,4})[\sT,]+(\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d+)?))?\s*([AP]M)?",
    re.IGNORECASE,
)


def times_of(table: CyclerTable) -> tuple[Array, bool]:
    """Return the time of each line in seconds, NaN where it has none, and whether it is since the epoch.

    Raises
    ------
    ReadingError
        No times, times that go back, or dates that cannot be.
    """
    if "unix" in table.columns and (unix := _unix(table)) is not None:
        return _checked(unix, table, "unix"), True
    passed = _passed(table)
    goes_back = passed is not None and _goes_back(passed)
    dates = _dates(table, whole=passed is None or goes_back)
    if passed is None or (goes_back and np.isfinite(dates).sum() > 1):
        kind = "date" if "date" in table.columns else "time"
        return _checked(dates, table, kind), True
    passed = _checked(passed, table, "time")
    # Dates are often of whole seconds: the times since the start are finer.
    both = np.isfinite(dates) & np.isfinite(passed)
    if both.any():
        ahead = dates[both] - passed[both]
        if np.ptp(ahead) > _PAUSED_S:
            # The test counts no time while it is paused, the clock does.
            return _checked(_dates(table, whole=True), table, "date"), True
        return passed + float(np.median(ahead)), True
    started = _STARTED.search(table.above)
    if started is not None and np.isfinite(begin := _epochs(pd.Series([started[1].strip()]))[0]):
        return passed + begin, True
    return passed, False


def utc_text(time_s: float) -> str:
    """Return a time as text."""
    try:
        return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{time_s:.6g} s since 1970"


def is_date(time_s: float) -> bool:
    """Return whether something may have been recorded then."""
    return _EARLIEST_S < time_s < _LATEST_S


def _unix(table: CyclerTable) -> Array | None:
    if table.columns["unix"].scale is not None:
        unix = table.numbers("unix")
    else:
        unix = pd.to_numeric(table.text("unix"), errors="coerce").to_numpy(float)
        # In seconds unless that would be in the far future: then in the smaller unit that is not.
        largest = np.nanmax(np.abs(unix), initial=0.0)
        unix = unix * next((scale for scale in (1.0, 1e-3, 1e-6, 1e-9) if largest * scale < _LATEST_S), 1.0)
    if unix is None or not np.isfinite(unix).any():
        return None
    if not is_date(float(np.nanmedian(unix))):
        raise ReadingError(
            f"the column '{table.columns['unix'].head.strip()}' of {table.name} holds no seconds since 1970: its times "
            f"would be {utc_text(float(np.nanmin(unix)))} and later"
        )
    return unix


def _passed(table: CyclerTable) -> Array | None:
    """Return the times since the start of the test; None where there are none that advance."""
    if "time" not in table.columns:
        return None
    parts = table.text("time").str.extract(_DURATION)
    if parts[1].notna().sum() > 1:
        days, hours, minutes, seconds = (
            pd.to_numeric(
                parts[k].fillna("0" if k == 0 else "").str.replace(",", "."), errors="coerce"
            ).to_numpy(float)
            for k in range(4)
        )
        passed: Array | None = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        passed = table.numbers("time")
    if passed is None or np.isfinite(passed).sum() < 2 or not np.ptp(passed[np.isfinite(passed)]) > 0:
        return None
    return passed


def _dates(table: CyclerTable, *, whole: bool) -> Array:
    """Return dates as seconds since the epoch: of all lines, or of some where they only say when it began."""
    dates = np.full(len(table), np.nan)
    # EC-Lab writes dates into its column of times where it is told to.
    kind = next((kind for kind in ("date", "time") if kind in table.columns), None)
    if kind is not None and len(table):
        step = 1 if whole else max(1, len(table) // _MOST_DATES)
        dates[::step] = _epochs(table.text(kind).iloc[::step])
    return dates


def _epochs(said: pd.Series) -> Array:
    """Return dates with a time of day as seconds since the epoch; NaN where there is none.

    Of ``11/12/2026`` and the like the month is first, unless one of them has no such month.
    """
    parts = [_DATE.fullmatch(text) for text in said]
    day_first = any(part is not None and len(part[1]) < 4 and int(part[1]) > 12 for part in parts)
    return np.array(
        [_epoch(text, part, day_first) for text, part in zip(said, parts, strict=True)], dtype=float
    )


def _epoch(text: str, part: re.Match[str] | None, day_first: bool) -> float:
    try:
        if part is None:
            return datetime.fromisoformat(text).timestamp() if ":" in text else float("nan")
        first, second, third, hour, minute = (int(part[k]) for k in (1, 3, 4, 5, 6))
        seconds = float((part[7] or "0").replace(",", "."))
        if part[8]:
            hour = hour % 12 + (12 if part[8].upper() == "PM" else 0)
        year, month, day = (first, second, third) if len(part[1]) == 4 else (third, first, second)
        if len(part[1]) < 4 and (day_first or part[2] == "."):
            month, day = day, month
        return datetime(year + (2000 if year < 100 else 0), month, day, hour, minute).timestamp() + seconds
    except (ValueError, OverflowError, OSError):
        return float("nan")


def _goes_back(times: Array) -> bool:
    good = times[np.isfinite(times)]
    return bool(np.diff(good).min(initial=0.0) < -_MOST_BACK_S)


def _checked(times: Array, table: CyclerTable, kind: str) -> Array:
    good = np.flatnonzero(np.isfinite(times))
    if good.size < 2:
        raise ReadingError(f"{table.name} has no times that can be read")
    if _goes_back(times):
        line = table.first_line + int(good[1 + np.argmax(np.diff(times[good]) < -_MOST_BACK_S)])
        raise ReadingError(
            f"the times in the column '{table.columns[kind].head.strip()}' of {table.name} go back at line "
            f"{line}: times of steps, or two tests; export the time since the start of the test"
        )
    return times
