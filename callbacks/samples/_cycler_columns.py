"""Columns of the text exports of cyclers: which holds what, in which unit, and its numbers."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from callbacks.errors import ReadingError

Array = npt.NDArray[np.float64]

_MOST_HEADER_LINES = 400
_MOST_SURPLUS = 8
_LONGEST_LINE = 2**16
_S_PER_H = 3600.0
# Names of columns by what they hold, the preferred first: Biologic (EC-Lab), Arbin, Maccor, Neware, and the Battery
# Data Format with its labels and its machine-readable names. Without unit, spaces and underscores.
_NAMES: Mapping[str, Sequence[str]] = {
    "unix": ("unixtime",),
    "date": ("datetime", "dptime", "dpttime", "realtime", "timestamp", "absolutetime", "date"),
    "time": ("testtime", "totaltime", "elapsedtime", "test", "time"),
    "current": ("current", "<i>", "i", "amps", "amp", "control/i"),
    "voltage": ("voltage", "ewe", "<ewe>", "ecell", "<ecell>", "volts", "volt"),
    "charge": ("netcapacity", "(q-qo)", "q-qo"),
    "state": ("state", "md", "steptype", "stepstate", "stepname"),
}
_UNITS: Mapping[str, Mapping[str, float]] = {
    "time": {
        "s": 1.0, "sec": 1.0, "second": 1.0, "ms": 1e-3, "millisecond": 1e-3, "min": 60.0, "minute": 60.0,
        "h": _S_PER_H, "hr": _S_PER_H, "hour": _S_PER_H,
    },
    "current": {
        "a": 1.0, "amp": 1.0, "ampere": 1.0, "ma": 1e-3, "milliampere": 1e-3, "ua": 1e-6, "µa": 1e-6,
        "microampere": 1e-6, "na": 1e-9,
    },
    "voltage": {"v": 1.0, "volt": 1.0, "mv": 1e-3, "millivolt": 1e-3},
    "charge": {
        "ah": 1.0, "amperehour": 1.0, "a.h": 1.0, "mah": 1e-3, "milliamperehour": 1e-3, "ma.h": 1e-3,
        "c": 1 / _S_PER_H, "coulomb": 1 / _S_PER_H,
    },
}  # fmt: skip
# Names that say their unit themselves.
_SAID_BY_NAME = {"amps": "a", "amp": "a", "volts": "v", "volt": "v"}
_EXAMPLES = {"time": "Time / s", "current": "Current / mA", "voltage": "Voltage / V"}
_SEPARATORS = ("\t", ";", ",", "|")
_WORDS = "|".join(
    sorted({re.escape(unit) for units in _UNITS.values() for unit in units}, key=len, reverse=True)
)
# "Name (unit)" or "Name[unit]", "name/unit", "name_unit".
_FORMS = (
    re.compile(r"(.*\S)\s*[\(\[]\s*([^()\[\]]+)\s*[\)\]]"),
    re.compile(r"(.*\S)\s*/\s*([^/]+)"),
    re.compile(rf"(.+)_((?:milli)?ampere_hour|(?:{_WORDS})s?)"),
)
_BLANKS = r"[\s\u00a0\u202f']"


@dataclass(frozen=True)
class Column:
    """Where a kind of value is.

    Attributes
    ----------
    number : int
        Which column.
    head : str
        As the file names it.
    scale : float or None
        What its numbers are multiplied by to be in s, A, V or Ah; None where the file does not say the unit.
    """

    number: int
    head: str
    scale: float | None


@dataclass(frozen=True)
class CyclerTable:
    """The lines of an export below the names of its columns.

    Attributes
    ----------
    name : str
        Of the file.
    above : str
        What stands above the names.
    first_line : int
        Number in the file of the first line of the table, from 1.
    columns : mapping of str to Column
        By what they hold.
    """

    name: str
    above: str
    first_line: int
    columns: Mapping[str, Column]
    _table: pd.DataFrame

    def __len__(self) -> int:
        return len(self._table)

    def text(self, kind: str) -> pd.Series:
        """Return a column as it is written."""
        said: pd.Series = self._table[self.columns[kind].number].fillna("").str.strip().str.strip('"')
        return said

    def numbers(self, kind: str) -> Array | None:
        """Return a column in s, A, V or Ah, NaN where there is no number; None where there is no such column.

        Raises
        ------
        ReadingError
            There are numbers, and the file does not say their unit.
        """
        if kind not in self.columns:
            return None
        values = _numbers_of(self.text(kind))
        scale = self.columns[kind].scale
        if scale is None:
            if not np.isfinite(values).any():
                return values
            head = self.columns[kind].head.strip()
            raise ReadingError(
                f"{self.name} does not say the unit of its column '{head}'; name it such as '{_EXAMPLES[kind]}'"
            )
        return values * scale


def cycler_table(text: str, name: str) -> CyclerTable:
    """Find the table in the text of an export.

    Raises
    ------
    ReadingError
        There is none, or its lines have more values than names.
    """
    lines = text.splitlines()
    place, separator = _header_of(lines[:_MOST_HEADER_LINES], name)
    heads = _split(lines[place], separator)
    columns = _columns_of(heads)
    begin = place + 1
    if with_units := _with_units(heads, columns, lines, begin, separator):
        columns, begin = with_units, begin + 1
    table = _table_of("\n".join(lines[begin:]), separator, len(heads), begin, name)
    return CyclerTable(name, "\n".join(lines[:place]), begin + 1, columns, table)


def _table_of(body: str, separator: str, n_columns: int, n_above: int, name: str) -> pd.DataFrame:
    problem = ""
    # A lone quotation mark in a remark must not swallow lines: quotes count only where columns do not fit without.
    for quoting in (csv.QUOTE_NONE, csv.QUOTE_MINIMAL):
        try:
            table = pd.read_csv(
                io.StringIO(body), sep=separator, header=None, dtype=str, keep_default_na=False,
                skip_blank_lines=False, names=range(n_columns + _MOST_SURPLUS), quoting=quoting,
            )  # fmt: skip
        except pd.errors.ParserError as error:
            problem = f"the lines of {name} do not fit the names of its columns ({error})"
            continue
        beyond = table[range(n_columns, n_columns + _MOST_SURPLUS)].fillna("")
        surplus = beyond.map(str.strip).ne("").any(axis=1)
        if not surplus.any():
            return table
        line = n_above + 1 + int(np.argmax(surplus))
        problem = f"line {line} of {name} has more values than there are names of columns"
    raise ReadingError(f"{problem}; export decimal commas with semicolons or tabs between the columns")


def _header_of(lines: Sequence[str], name: str) -> tuple[int, str]:
    """Return the line of the column names, and what separates them."""
    for place, line in enumerate(lines):
        for separator in _SEPARATORS:
            found = _columns_of(_split(line, separator)) if separator in line else {}
            if {"time", "date", "unix"} & found.keys() and {"current", "charge", "voltage"} & found.keys():
                return place, separator
    raise ReadingError(
        f"{name} has no line with names of columns for time and current (such as 'Test Time / s' and 'Current / A')"
    )


def _split(line: str, separator: str) -> list[str]:
    if len(line) > _LONGEST_LINE:
        return []
    return next(csv.reader([line], delimiter=separator), [])


def _columns_of(heads: Sequence[str]) -> dict[str, Column]:
    """Return each kind of column that is known."""
    found: dict[str, tuple[int, Column]] = {}
    for number, head in enumerate(heads):
        name, unit = _name_and_unit(head)
        unit = unit or _SAID_BY_NAME.get(name, "")
        for kind, names in _NAMES.items():
            if name not in names:
                continue
            known, scale = _scale_of(kind, unit)
            rank = names.index(name)
            if known and (kind not in found or rank < found[kind][0]):
                found[kind] = rank, Column(number, head, scale)
    return {kind: column for kind, (_, column) in found.items()}


def _scale_of(kind: str, unit: str) -> tuple[bool, float | None]:
    """Return whether a unit fits, and by what it is multiplied: None where none is said."""
    units = _UNITS.get("time" if kind == "unix" else kind)
    if units is None:
        return True, 1.0
    if not unit or (kind == "time" and ":" in unit):  # "Time (h:min:s)" holds no numbers
        return kind != "charge", None
    unit = unit if unit in units else unit.removesuffix("s")
    return unit in units, units.get(unit)


def _name_and_unit(head: str) -> tuple[str, str]:
    plain = head.strip().strip('"').strip().lower().replace("μ", "µ")
    unit = ""
    for form in _FORMS:
        if match := form.fullmatch(plain):
            plain, unit = match[1], match[2]
            break
    return re.sub(r"[\s_]", "", plain), re.sub(r"[\s_]", "", unit)


def _with_units(
    heads: Sequence[str], columns: Mapping[str, Column], lines: Sequence[str], place: int, separator: str
) -> dict[str, Column]:
    """Return the columns with the units of a line of their own below the names; nothing where there is none."""
    cells = _split(lines[place], separator) if place < len(lines) else []
    if len(cells) < len(heads) or not any(column.scale is None for column in columns.values()):
        return {}
    joined = [
        f"{head} ({unit.strip(' ()[]')})" if unit.strip() else head
        for head, unit in zip(heads, cells, strict=False)
    ]
    found = _columns_of(joined)
    is_units = columns.keys() <= found.keys() and all(column.scale is not None for column in found.values())
    return found if is_units else {}


def _numbers_of(said: pd.Series) -> Array:
    """Return numbers with decimal points or commas, and without what groups their digits."""
    said = said.str.replace(_BLANKS, "", regex=True)
    comma = said.str.contains(",", regex=False)
    if comma.any():
        both = said[comma & said.str.contains(".", regex=False)]
        if both.empty or bool((both.str.rfind(",") > both.str.rfind(".")).all()):
            said = said.str.replace(".", "", regex=False) if not both.empty else said
            said = said.str.replace(",", ".", regex=False)
        else:
            said = said.str.replace(",", "", regex=False)
    return np.asarray(pd.to_numeric(said, errors="coerce"), dtype=np.float64)
