"""Text exports of battery cyclers: time, charge, voltage and current, whatever the maker calls them."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from callbacks.errors import ReadingError

from ._cycler_columns import CyclerTable, cycler_table
from ._cycler_times import is_date, times_of

Array = npt.NDArray[np.float64]

_LARGEST_BYTES = 512 * 2**20
_S_PER_H = 3600.0
_LARGEST_DRIFT_S_PER_H = 600.0
# What makers write of a line of charging or discharging.
_DISCHARGE = re.compile(r"d|.*(dchg|dis-?ch).*", re.IGNORECASE)
_CHARGE = re.compile(r"c|.*(chg|charg).*", re.IGNORECASE)
_BOMS = {b"\xff\xfe\x00\x00": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Voltage against charge: a cell that is charged does not fall so.
_FALLING, _LEAST_VOLTAGE_V = -0.5, 0.02


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
        if not (np.isfinite(offset_s) and abs(drift_s_per_h) <= _LARGEST_DRIFT_S_PER_H):
            raise ReadingError(
                f"the clock of a cycler is off by a number of seconds, and drifts by at most "
                f"{_LARGEST_DRIFT_S_PER_H:g} s an hour, not by {offset_s:g} s and {drift_s_per_h:g} s an hour"
            )
        time_s = self.time_s - self.time_s[0]
        begin = self.time_s[0] if start_s is None else start_s + (0.0 if self.is_absolute else self.time_s[0])
        if not is_date(begin + offset_s):
            raise ReadingError(
                f"{self.source} cannot begin {begin + offset_s:.6g} s after 1970; look at clock and start"
            )
        moved = begin + offset_s + time_s * (1.0 + drift_s_per_h / _S_PER_H)
        return replace(self, time_s=moved, is_absolute=True)

    @property
    def falls_while_charged(self) -> bool:
        """Whether the voltage falls as charge passes in, which speaks for the other sign of current and charge."""
        good = np.isfinite(self.voltage_v) & np.isfinite(self.charge_ah)
        voltage, charge = self.voltage_v[good], self.charge_ah[good]
        if voltage.size < 3 or not (np.ptp(voltage) > _LEAST_VOLTAGE_V and np.ptp(charge) > 0):
            return False
        return bool(np.corrcoef(voltage, charge)[0, 1] < _FALLING)


def read_cycler(path: Path | str, *, discharge_positive: bool = False) -> CyclerData:
    """Read a text export of a cycler.

    Parameters
    ----------
    path : Path or str
        Text with a line of column names: CSV, tab- or semicolon-separated, with decimal points or commas; Biologic
        ``.mpt``, Arbin CSV, Maccor text, Neware CSV, Battery Data Format (``.bdf.csv``).
    discharge_positive : bool
        The file counts charge and current of discharging positive.

    Returns
    -------
    CyclerData

    Raises
    ------
    ReadingError
        It cannot be read, is no such text, or has no time that goes on, or neither charge nor signed current; or does
        not say the unit of a column.

    Notes
    -----
    Charge is taken from a column of net charge where there is one, else integrated from the current by trapezoids.
    Times without a time zone are those of this machine.
    """
    file = Path(path)
    table = cycler_table(_text_of(file), file.name)
    time_s, is_absolute = times_of(table)
    order = np.flatnonzero(np.isfinite(time_s))
    order = order[np.argsort(time_s[order], kind="stable")]
    time_s, sign = time_s[order], -1.0 if discharge_positive else 1.0
    current, charge, voltage = (
        None if values is None else values[order]
        for values in (table.numbers("current"), table.numbers("charge"), table.numbers("voltage"))
    )
    if current is not None and "state" in table.columns:
        current = _signed(current, table.text("state").iloc[order])
    charge_from = "column of net charge"
    if charge is None or not np.isfinite(charge).all():
        current = _usable_current(current, table, order)
        charge_from = "integral of the current"
        charge = (
            np.concatenate([[0.0], np.cumsum(0.5 * (current[1:] + current[:-1]) * np.diff(time_s))])
            / _S_PER_H
        )
    nothing = np.full(time_s.size, np.nan)
    return CyclerData(
        time_s=time_s,
        charge_ah=sign * (charge - charge[0]),
        voltage_v=nothing if voltage is None else voltage,
        current_a=nothing if current is None else sign * current,
        is_absolute=is_absolute,
        source=file.name,
        charge_from=charge_from,
    )


def _usable_current(current: Array | None, table: CyclerTable, order: npt.NDArray[np.intp]) -> Array:
    if current is None:
        raise ReadingError(
            f"{table.name} has no column of net charge and none of current; export it with the current in A or mA"
        )
    lost = ~np.isfinite(current)
    if lost.any():
        raise ReadingError(
            f"{int(lost.sum())} of {lost.size} lines of {table.name} have no current that can be read (the first: line "
            f"{table.first_line + int(order[np.argmax(lost)])}); export it anew, or take those lines out"
        )
    return current


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
    encoding = _encoding_of(raw[:4096])
    if encoding is None:
        raise ReadingError(
            f"{file.name} is no text; export it as text (EC-Lab: .mpt, Arbin and Neware: CSV, Maccor: text)"
        )
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return raw.decode("latin-1")  # EC-Lab writes µ so


def _encoding_of(begin: bytes) -> str | None:
    """Return how a text is written; None where it is none."""
    for mark, encoding in _BOMS.items():
        if begin.startswith(mark):
            return encoding
    if b"\0" not in begin:
        return "utf-8-sig"
    # "Unicode text" of Windows without its mark: every second byte of plain letters is 0.
    even, odd = (np.mean([byte == 0 for byte in begin[start::2]]) for start in (0, 1))
    if max(even, odd) > 0.9 and min(even, odd) < 0.1:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def _signed(current: Array, state: pd.Series) -> Array:
    """Return a current with its sign where a column says which way it flows, as Maccor does."""
    discharging = state.str.fullmatch(_DISCHARGE).to_numpy(bool)
    charging = state.str.fullmatch(_CHARGE).to_numpy(bool) & ~discharging
    if np.nanmax(current[discharging], initial=0.0) <= 0 <= np.nanmin(current[charging], initial=0.0):
        return current
    return np.where(discharging, -np.abs(current), np.where(charging, np.abs(current), current))
