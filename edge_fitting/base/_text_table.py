"""Tables of numbers in text files as people have them: encodings, separators, decimal commas, titles."""

import csv
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_fitting.errors import EdgeFittingError

_MOST_BYTES = 64 * 2**20
_COMMENT = ("#", "%", ";", "!", "//")
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "null", "-", "--", "---"})
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdDqQ]([+-]?\d+)|([+-]\d{3}))?")
_GROUPS = re.compile(r"[+-]?\d{1,3}(?:([ \u00a0\u2009\u202f'\u2019.,])\d{3})(?:\1\d{3})*")
_XDI_COLUMN = re.compile(r"column\.(\d+)\s*[:=]\s*(.+)", re.IGNORECASE)
_FIELD = re.compile(r"([a-z_]+\.[a-z_0-9]+)\s*[:=]\s*(.+)", re.IGNORECASE)
_UNITS = (
    *("kev", "mev", "ev", "ms", "us", "s", "sec", "angstrom", "ang", "a", "nm", "pm"),
    *("degrees", "deg", "degree", "radians", "rad", "mrad"),
)
_BRACKET = re.compile(r"\s*[(\[]([^)\]]*)[)\]]\s*")
_UNIT_AT_END = re.compile(rf"[\s_/,]+(?:in\s+)?({'|'.join(unit for unit in _UNITS if unit != 'a')})$")
_LINES_OF_TITLES = 4  # units and rules may stand between the titles and the numbers


@dataclass(frozen=True)
class Title:
    """Title of a column.

    Attributes
    ----------
    name : str
        Lower case, words joined by "_", without unit; empty where there is none.
    unit : str
        Lower case; empty where none is given.
    """

    name: str
    unit: str = ""


@dataclass(frozen=True)
class TextTable:
    """Numbers of a text file, with what stands above them.

    Attributes
    ----------
    path : Path
        The file.
    values : ndarray, (n_row, n_column)
        The numbers; NaN where a cell is empty.
    lines : tuple of int
        Line of the file that each row is in, from 1.
    header : tuple of str
        Lines above the numbers without comment signs, the nearest one last.
    fields : dict of str to str
        Header fields such as "mono.d_spacing", lower case.
    is_ambiguous : bool
        Whether commas may be separators or decimal: nothing but titles can tell.
    """

    path: Path
    values: npt.NDArray[np.float64]
    lines: tuple[int, ...]
    header: tuple[str, ...]
    fields: dict[str, str]
    is_ambiguous: bool

    def titles(self, is_known: Callable[[str], bool]) -> tuple[Title, ...] | None:
        """Return the titles of the columns; None where there are none.

        Parameters
        ----------
        is_known : callable
            Whether a name is one that the caller looks for; a line of titles has at least one.

        Raises
        ------
        EdgeFittingError
            If titles of more columns, or of less, stand above three or more columns, or commas are ambiguous.
        """
        count = self.values.shape[1]
        if (declared := self._declared()) is not None:
            return declared
        for distance, line in enumerate(self._lines_with_titles()):
            for cells in _splits(line):
                titles = tuple(_title(cell) for cell in cells)
                known = sum(is_known(title.name) for title in titles)
                # Two words farther up may be no titles but a remark.
                if len(titles) == count and known >= (2 if distance and count == 2 else 1):
                    return titles
        for line in self._lines_with_titles():
            for cells in _splits(line):
                if count > 2 and sum(is_known(_title(cell).name) for cell in cells) > 1:
                    raise EdgeFittingError(
                        f"file {self.path} has {len(cells)} titles ('{line.strip()[:60]}') for {count} columns; give "
                        "each column one title."
                    )
        if self.is_ambiguous:
            raise EdgeFittingError(
                f"file {self.path} has commas that may be separators or decimal commas; separate its columns by tabs "
                "or semicolons, or give each a title."
            )
        return None

    @property
    def is_xdi(self) -> bool:
        """Whether the header names the columns as XDI does."""
        return any(_XDI_COLUMN.match(line) for line in self.header)

    def _declared(self) -> tuple[Title, ...] | None:
        """Titles by XDI's "Column.N: name unit"."""
        found = [match for line in self.header if (match := _XDI_COLUMN.match(line))]
        if not found:
            return None
        titles = [Title("")] * self.values.shape[1]
        for match in found:
            index = int(match[1]) - 1
            if 0 <= index < len(titles):
                name, *unit = match[2].split()
                titles[index] = Title(_title(name).name, unit[0].lower() if unit else _title(name).unit)
        return tuple(titles)

    def _lines_with_titles(self) -> list[str]:
        spec = [line[2:] for line in self.header if line.startswith("L ")]
        near = [line for line in reversed(self.header) if re.search(r"\w", line)]
        return spec[-1:] + near[:_LINES_OF_TITLES]


def read_text_table(path: Path) -> TextTable:
    """Read a table of numbers from a text file.

    UTF-8, UTF-16 and UTF-32 with or without byte order mark, Latin-1; columns separated by tabs, semicolons, commas
    or blanks; decimal points or commas; exponents with E or D; lines that begin with ``#``, ``%``, ``;``, ``!`` or
    ``//`` are comments; text above the numbers is header.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    TextTable

    Raises
    ------
    EdgeFittingError
        If it cannot be read, is no text, or holds no table of numbers; the message begins with "file" and the path.
    """
    lines = re.split(r"\r\n|\r|\n", _text(path))
    rows: list[tuple[int, str]] = []
    header: list[tuple[int, str]] = []
    after = False
    for number, line in enumerate(lines, start=1):
        bare = line.strip()
        if not bare:
            continue
        if bare.startswith(_COMMENT):
            if re.match(r"#[SL]\s", bare) and rows and _has_digit_first(rows[-1][1]):
                after = True
            header.append((number, bare.lstrip("#%;!/").strip() if bare[:2] != "#L" else bare[1:]))
        elif after:
            raise EdgeFittingError(
                f"file {path} holds several scans; save the one to be used in a file of its own."
            )
        else:
            rows.append((number, line.strip(" \n")))
    separator = _separator([row for _, row in rows])
    parsed = _parsed([row for _, row in rows], separator)
    widths = [len(cells) for cells in parsed if cells is not None]
    if not widths:
        raise EdgeFittingError(f"file {path} is not a table of numbers.")
    width = max(set(widths), key=widths.count)
    first = next(index for index, cells in enumerate(parsed) if cells is not None and len(cells) == width)
    for (number, row), cells in zip(rows[first:], parsed[first:], strict=True):
        if cells is None:
            raise EdgeFittingError(
                f"file {path} has text among its numbers ('{row.strip()[:40]}', line {number}); remove it."
            )
        if len(cells) != width:
            raise EdgeFittingError(
                f"file {path} has {len(cells)} numbers in line {number} where {width} are expected; correct it."
            )
    values = np.array(parsed[first:], dtype=np.float64)
    start = rows[first][0]
    header += rows[:first]
    above = tuple(text for number, text in sorted(header) if number < start)
    fields = {match[1].lower(): match[2].strip() for text in above if (match := _FIELD.match(text))}
    is_ambiguous = separator == "," and not any("." in row or '"' in row for _, row in rows[first:])
    return TextTable(path, values, tuple(number for number, _ in rows[first:]), above, fields, is_ambiguous)


def _text(path: Path) -> str:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise EdgeFittingError(f"file {path} is a folder or a device; give a text file.")
        if about.st_size > _MOST_BYTES:
            raise EdgeFittingError(
                f"file {path} has {about.st_size / 1e6:.0f} MB, too much for a table of energies; check the path."
            )
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, EdgeFittingError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise EdgeFittingError(f"file {path} cannot be read ({reason}); check the path.") from error
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
        (b"\xef\xbb\xbf", "utf-8-sig"),
    ):
        if content.startswith(mark):
            return content.decode(encoding, errors="replace")
    sample = content[:4096]
    if sample.count(0) > len(sample) // 4:
        # Text of a two-byte encoding without its mark: every other byte is zero.
        encoding = "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
        decoded = content.decode(encoding, errors="replace")
        if decoded.isascii() and not re.search(r"[\0-\x08]", decoded):
            return decoded
    if sample[:2] == b"\x1f\x8b" or b"Athena project file" in sample:
        raise EdgeFittingError(
            f"file {path} is compressed or an Athena project; export the spectrum as column data (mu(E) or norm(E))."
        )
    if re.search(rb"[\0-\x08\x0e-\x19]", content):
        raise EdgeFittingError(f"file {path} is not text; export the table as text or CSV.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _has_digit_first(row: str) -> bool:
    return bool(re.match(r"[+-]?[\d.]", row.strip()))


def _separator(rows: list[str]) -> str:
    """Return the separator by which most rows are numbers: tab, semicolon, blanks or comma."""
    found, most = " ", 0
    for separator in ("\t", ";", " ", ","):
        if separator != " " and not any(separator in row for row in rows):
            continue
        count = sum(1 for cells in _parsed(rows, separator) if cells is not None and len(cells) > 1)
        if count > most:
            found, most = separator, count
    return found


def _parsed(rows: list[str], separator: str) -> list[list[float] | None]:
    """Return the numbers of each row; None where a cell is no number."""
    cells = [_cells(re.sub(r"\s*[#!].*$", "", row), separator) for row in rows]
    if separator != " " and all(
        not row[-1].strip() for row in cells if len(row) > 1 and _has_digit_first(row[0])
    ):
        # Every line ends with the separator.
        cells = [row[:-1] if len(row) > 1 and not row[-1].strip() else row for row in cells]
    numeric = [cell for row in cells if all(_looks_numeric(cell) for cell in row) for cell in row]
    has_point = any("." in cell and "," not in cell for cell in numeric)
    has_comma = any("," in cell and "." not in cell for cell in numeric)
    decimal_comma = has_comma and not has_point
    parsed: list[list[float] | None] = []
    for row in cells:
        numbers = [_number(cell, decimal_comma) for cell in row]
        known = [number for number in numbers if number is not None]
        # A row of empty cells only says nothing.
        is_row = len(known) == len(numbers) and not np.isnan(known).all()
        is_named = any(cell.strip().lower() in ("nan", "inf") for cell in row)
        parsed.append(known if is_row or (is_named and len(known) == len(numbers)) else None)
    return parsed


def _cells(row: str, separator: str) -> list[str]:
    if separator == " ":
        return re.split(r"[ \t]+", row.strip(" \t"))
    try:
        return next(csv.reader([row], delimiter=separator, skipinitialspace=True), [""])
    except csv.Error:
        return [row]  # a cell without end is no number


def _looks_numeric(cell: str) -> bool:
    return bool(re.fullmatch(r"[\s\d.,+\-eEdDqQ'\u2019\u2212\"]*", cell)) or cell.strip().lower() in _MISSING


def _number(cell: str, decimal_comma: bool) -> float | None:
    """Return the number in a cell, NaN if it is empty, None if it is text."""
    text = cell.strip().strip("\"'").strip().replace("\u2212", "-")
    if text.lower() in _MISSING:
        return float("nan")
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return float("inf")
    whole, point, fraction = text, "", ""
    if "," in text and "." in text:
        place = max(text.rfind(","), text.rfind("."))
        whole, point, fraction = text[:place], ".", text[place + 1 :]
    elif "," in text and decimal_comma and text.count(",") == 1:
        whole, point, fraction = *text.split(",")[:1], ".", text.split(",")[1]
    elif "." in text and text.count(".") == 1:
        whole, point, fraction = *text.split(".")[:1], ".", text.split(".")[1]
    if _GROUPS.fullmatch(whole):
        whole = re.sub(r"[^\d+-]", "", whole)
    match = _NUMBER.fullmatch(f"{whole}{point}{fraction}")
    if match is None:
        return None
    return float(f"{match[1]}e{match[2] or match[3] or 0}")


def _splits(line: str) -> list[list[str]]:
    """Return a line of titles cut in every way that makes sense, the likeliest first."""
    found = []
    for separator in ("\t", ";", ","):
        if separator in line:
            found.append([cell.strip() for cell in _cells(line, separator)])
    found.append([cell.strip() for cell in re.split(r"\s{2,}", line.strip())])
    found.append(re.split(r"\s+", re.sub(r"\s+(?=[(\[])", "", line.strip())))
    return [cells[:-1] if len(cells) > 1 and not cells[-1] else cells for cells in found]


def _title(cell: str) -> Title:
    text = cell.strip().strip("\"'").strip().lower().replace("\u00b5", "mu").replace("\u03bc", "mu")
    unit = ""
    if bracket := _BRACKET.search(text):
        inside = bracket[1].strip().replace("\u00e5", "a")
        unit = inside if inside in _UNITS else ""
        text = _BRACKET.sub(" ", text)
    elif end := _UNIT_AT_END.search(text):
        unit = end[1]
        text = text[: end.start()]
    return Title(re.sub(r"[^a-z0-9]+", "_", text).strip("_"), unit)
