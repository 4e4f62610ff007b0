"""Text exports of battery cyclers: time, charge, voltage and current, whatever the maker calls them."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from callbacks.errors import ReadingError

Array = npt.NDArray[np.float64]

_LARGEST_BYTES = 512 * 2**20
_MOST_HEADER_LINES = 400
_S_PER_H = 3600.0
# Names of columns by what they hold, the preferred first: Biologic (EC-Lab), Arbin, Maccor, Neware, and the Battery
# Data Format with its labels and its machine-readable names. Without unit, spaces and underscores.
_NAMES: Mapping[str, Sequence[str]] = {
    "unix": ("unixtime",),
    "date": ("datetime", "dptime", "dpttime", "realtime", "timestamp", "absolutetime", "date"),
    "time": ("testtime", "time", "test", "totaltime", "elapsedtime"),
    "current": ("current", "<i>", "i", "amps", "amp", "control/i"),
    "voltage": ("voltage", "ewe", "<ewe>", "ecell", "<ecell>", "volts", "volt"),
    "charge": ("netcapacity", "(q-qo)", "q-qo"),
    "state": ("state", "md"),
}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "time": {
        "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "min": 60.0, "h": _S_PER_H, "hr": _S_PER_H, "hour": _S_PER_H,
    },
    "current": {"a": 1.0, "ampere": 1.0, "ma": 1e-3, "milliampere": 1e-3, "ua": 1e-6, "µa": 1e-6},
    "voltage": {"v": 1.0, "volt": 1.0, "mv": 1e-3, "millivolt": 1e-3},
    "charge": {
        "ah": 1.0, "amperehour": 1.0, "a.h": 1.0, "mah": 1e-3, "ma.h": 1e-3, "c": 1 / _S_PER_H,
        "coulomb": 1 / _S_PER_H,
    },
}  # fmt: skip
_DEFAULT_UNIT = {"time": "s", "unix": "s", "current": "a", "voltage": "v"}
# "Name (unit)" or "Name[unit]", "name/unit", "name_unit".
_FORMS = (
    re.compile(r"(.*\S)\s*[\(\[]\s*([^()\[\]]+)\s*[\)\]]"),
    re.compile(r"(.*\S)\s*/\s*([^/]+)"),
    re.compile(r"(.+)_(second|volt|ampere|ampere_hour|ah|milliampere|hour)"),
)
_MOST_DATES = 1000
_STARTED = re.compile(r"Acquisition started on\s*:\s*(\S+\s+\S+)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class CyclerData:
    """What a cycler recorded.

    Attributes
    ----------
    time_s : ndarray, (n,)
        Seconds since the epoch where `is_absolute`, else since the start of the test; not decreasing.
    charge_ah : ndarray, (n,)
        Charge passed since the first line, positive for charging.
    voltage_v, current_a : ndarray, (n,)
        NaN where the file has none.
    is_absolute : bool
        Whether the file says when it was recorded.
    source : str
        Name of the file.
    charge_from : str
        Where the charge is from: the column, or the integral of the current.
    """

    time_s: Array
    charge_ah: Array
    voltage_v: Array
    current_a: Array
    is_absolute: bool
    source: str
    charge_from: str

    def on_clock(
        self, *, start_s: float | None = None, offset_s: float = 0.0, drift_s_per_h: float = 0.0
    ) -> "CyclerData":
        """Return the same on the clock of the beamline.

        Parameters
        ----------
        start_s : float, optional
            When the test began, seconds since the epoch, where the file does not say.
        offset_s : float
            What to add to the cycler's time at its first line.
        drift_s_per_h : float
            What to add besides for every hour after that: positive for a clock of the cycler that is slow.

        Raises
        ------
        ReadingError
            It is not known when the test began.
        """
        if not self.is_absolute and start_s is None:
            raise ReadingError(
                f"{self.source} does not say when it was recorded; give the start of the test (--cycler-start)"
            )
        time_s = self.time_s - self.time_s[0]
        begin = self.time_s[0] if start_s is None else start_s + (0.0 if self.is_absolute else self.time_s[0])
        moved = begin + offset_s + time_s * (1.0 + drift_s_per_h / _S_PER_H)
        return CyclerData(
            moved, self.charge_ah, self.voltage_v, self.current_a, True, self.source, self.charge_from
        )


def read_cycler(path: Path | str) -> CyclerData:
    """Read a text export of a cycler.

    Parameters
    ----------
    path : Path or str
        Text with a line of column names: CSV, tab- or semicolon-separated, with decimal points or commas; Biologic
        ``.mpt``, Arbin CSV, Maccor text, Neware CSV, Battery Data Format (``.bdf.csv``).

    Returns
    -------
    CyclerData

    Raises
    ------
    ReadingError
        It cannot be read, is no such text, or has no time, or neither charge nor signed current.

    Notes
    -----
    Charge is taken from a column of net charge where there is one, else integrated from the current by trapezoids.
    Times without a time zone are those of this machine.
    """
    file = Path(path)
    text = _text_of(file)
    lines = text.splitlines()
    place, separator = _header_of(lines[:_MOST_HEADER_LINES], file.name)
    columns = _columns_of(lines[place].split(separator))
    body = "\n".join(lines[place + 1 :])
    decimal = "," if separator != "," and re.search(r"\d,\d", body[:20_000]) else "."
    table = pd.read_csv(
        io.StringIO(body), sep=separator, header=None, dtype=str, on_bad_lines="skip", keep_default_na=False,
        skip_blank_lines=True, names=range(len(lines[place].split(separator)) + 1),
    )  # fmt: skip

    def numbers(kind: str) -> Array | None:
        if kind not in columns:
            return None
        number, scale = columns[kind]
        said = table[number].str.strip()
        values = pd.to_numeric(said.str.replace(",", ".") if decimal == "," else said, errors="coerce")
        return np.asarray(values, dtype=np.float64) * scale

    time_s, is_absolute = _times(table, columns, numbers, _STARTED.search("\n".join(lines[:place])))
    good = np.isfinite(time_s)
    if good.sum() < 2:
        raise ReadingError(f"{file.name} has no times that can be read")
    current, charge, voltage = numbers("current"), numbers("charge"), numbers("voltage")
    if current is not None and "state" in columns:
        current = _signed(current, table[columns["state"][0]])
    charge_from = "column of net charge"
    if charge is None or not np.isfinite(charge[good]).all():
        if current is None or not np.isfinite(current[good]).all():
            raise ReadingError(
                f"{file.name} has no column of net charge and none of current; export it with the current in A or mA"
            )
        charge_from = "integral of the current"
    order = np.flatnonzero(good)[np.argsort(time_s[good], kind="stable")]
    time_s = time_s[order]
    if charge_from == "integral of the current":
        assert current is not None
        held = current[order]
        charge = np.concatenate([[0.0], np.cumsum(0.5 * (held[1:] + held[:-1]) * np.diff(time_s))]) / _S_PER_H
    else:
        assert charge is not None
        charge = charge[order] - charge[order[0]]
    nothing = np.full(time_s.size, np.nan)
    return CyclerData(
        time_s=time_s,
        charge_ah=charge,
        voltage_v=nothing if voltage is None else voltage[order],
        current_a=nothing if current is None else current[order],
        is_absolute=is_absolute,
        source=file.name,
        charge_from=charge_from,
    )


def _text_of(file: Path) -> str:
    try:
        if not file.is_file():
            raise ReadingError(f"there is no file {file}")
        if file.stat().st_size > _LARGEST_BYTES:
            raise ReadingError(
                f"{file.name} is larger than 512 MB; export the columns of time, current and voltage"
            )
        raw = file.read_bytes()
    except OSError as error:
        raise ReadingError(f"{file} cannot be read ({error.strerror})") from error
    if b"\0" in raw[:4096]:
        raise ReadingError(
            f"{file.name} is no text; export it as text (EC-Lab: .mpt, Arbin and Neware: CSV, Maccor: text)"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # EC-Lab writes µ so


def _header_of(lines: Sequence[str], name: str) -> tuple[int, str]:
    """Return the line of the column names, and what separates them."""
    for place, line in enumerate(lines):
        for separator in ("\t", ";", ","):
            found = _columns_of(line.split(separator)) if separator in line else {}
            if {"time", "date", "unix"} & found.keys() and {"current", "charge", "voltage"} & found.keys():
                return place, separator
    raise ReadingError(
        f"{name} has no line with names of columns for time and current (such as 'Test Time / s' and 'Current / A')"
    )


def _columns_of(heads: Sequence[str]) -> dict[str, tuple[int, float]]:
    """Return place and scale of each kind of column that is known."""
    found: dict[str, tuple[int, int, float]] = {}
    for number, head in enumerate(heads):
        name, unit = _name_and_unit(head)
        for kind, names in _NAMES.items():
            if name not in names:
                continue
            units = _UNITS.get("time" if kind == "unix" else kind)
            scale = 1.0
            if units is not None:
                known = unit or _DEFAULT_UNIT.get(kind, "")
                known = known if known in units else known.removesuffix("s")
                if known not in units:
                    continue
                scale = units[known]
            rank = names.index(name)
            if kind not in found or rank < found[kind][0]:
                found[kind] = rank, number, scale
    return {kind: (number, scale) for kind, (_, number, scale) in found.items()}


def _name_and_unit(head: str) -> tuple[str, str]:
    plain = head.strip().strip('"').strip().lower()
    unit = ""
    for form in _FORMS:
        if match := form.fullmatch(plain):
            plain, unit = match[1], match[2]
            break
    return re.sub(r"[\s_]", "", plain), re.sub(r"[\s_]", "", unit)


def _times(
    table: pd.DataFrame,
    columns: Mapping[str, tuple[int, float]],
    numbers: Callable[[str], Array | None],
    started: re.Match[str] | None,
) -> tuple[Array, bool]:
    """Return the times, and whether they are since the epoch."""
    if (unix := numbers("unix")) is not None and np.isfinite(unix).any():
        return unix, True
    passed = numbers("time")
    if passed is not None and np.isfinite(passed).sum() < 2:
        passed = None
    step = 1 if passed is None else max(1, len(table) // _MOST_DATES)
    dates = np.full(len(table), np.nan)
    if "date" in columns:
        dates[::step] = [_epoch(said) for said in table[columns["date"][0]].iloc[::step]]
    if passed is None:
        return dates, True
    # Dates are often of whole seconds: the times since the start are finer.
    both = np.isfinite(dates) & np.isfinite(passed)
    if both.any():
        return passed + float(np.median(dates[both] - passed[both])), True
    if started is not None and np.isfinite(begin := _epoch(started[1])):
        return passed + begin, True
    return passed, False


def _epoch(text: str) -> float:
    """Return a date and time as seconds since the epoch; NaN where it is none."""
    plain = text.strip().strip('"')
    try:
        return datetime.fromisoformat(plain.replace("/", "-")).timestamp()
    except ValueError:
        pass
    for form in ("%m/%d/%Y %H:%M:%S.%f", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M:%S"):
        try:
            return datetime.strptime(plain, form).timestamp()
        except ValueError:
            continue
    return float("nan")


def _signed(current: Array, state: pd.Series) -> Array:
    """Return a current with its sign where a column says which way it flows, as Maccor does."""
    if np.nanmin(current, initial=0.0) < 0:
        return current
    said = state.str.strip().str.upper()
    return np.where(said == "D", -current, current)


def utc_text(time_s: float) -> str:
    """Return a time as text."""
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
