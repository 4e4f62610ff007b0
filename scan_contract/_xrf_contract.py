"""The contract of a map with a fluorescence detector."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ._contract import Contract, Positive
from ._entry import Entry

ROW_AXIS, COLUMN_AXIS = "row", "column"
"""Axes of a raster: positions in um, in the plan's order."""


class McaCalibration(Entry):
    """Energy scale of one detector element.

    Parameters
    ----------
    gain_ev : float
        Width of a channel.
    offset_ev : float
        Energy at the middle of channel 0.
    """

    gain_ev: Positive
    offset_ev: float = 0.0


class FilmStandard(Entry):
    """A film of known areal densities, measured as the sample is.

    Parameters
    ----------
    areal_density_ug_cm2 : mapping of str to float
        Of each element.
    counts : mapping of str to float
        Counts of each element's lines for a unit of the incident intensity.
    source : str
        Where that is from.
    """

    areal_density_ug_cm2: dict[str, Positive]
    counts: dict[str, Positive]
    source: str = ""


class CompositionSeries(Entry):
    """References of one composition.

    Parameters
    ----------
    fraction : float
        Share of the edge's element among the transition metals.
    references : mapping
        Spectra of known state of charge, `edge_fitting.ReferenceSeries.to_dict`.
    name : str
        Of the composition.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]
    references: dict[str, Any]
    name: str = ""


class XRFContract(Contract):
    """A raster of a focus with a fluorescence detector, at one energy or over several.

    ``axes`` holds ``row`` and ``column``, the planned positions in um. An event is a point, or a line of them.

    Parameters
    ----------
    elements : tuple of str
        What to look for: K lines of elements, or ``Pb_L``.
    line : bool
        Whether an event is a whole line.
    calibration : tuple of McaCalibration or None
        Nominal energy scale of each detector element; None for one that has none.
    angle_deg : float
        Angle between the beam and the way to the detector.
    focus_um : float, optional
        Full width at half maximum of the focus.
    standard : FilmStandard, optional
        What makes counts areal densities.
    composition_references : tuple of CompositionSeries
        References of several compositions, which are blended for that of each pixel.
    """

    technique: Literal["xrf"] = "xrf"
    elements: Annotated[tuple[str, ...], Field(min_length=1)]
    line: bool = False
    calibration: Annotated[tuple[McaCalibration | None, ...], Field(min_length=1)]
    angle_deg: float = 90.0
    focus_um: Positive | None = None
    standard: FilmStandard | None = None
    composition_references: tuple[CompositionSeries, ...] = ()

    @model_validator(mode="after")
    def _has_a_raster(self) -> "XRFContract":
        for name in (ROW_AXIS, COLUMN_AXIS):
            if not self.axes.get(name):
                raise ValueError(f"a raster needs positions along {name}")
        if len(set(self.elements)) != len(self.elements):
            raise ValueError("an element is named twice")
        if all(one is None for one in self.calibration):
            raise ValueError("no detector element has an energy scale")
        return self

    @property
    def first_row(self) -> int:
        """Row at which the first energy that is taken begins: not 0 where the run goes on with an aborted one."""
        return self.take.first_row or 0

    @property
    def readings_expected(self) -> int:
        """Number of points, or lines."""
        rows, columns = len(self.axes[ROW_AXIS]), len(self.axes[COLUMN_AXIS])
        lines = len(self.taken_indices) * rows - self.first_row
        return lines if self.line else lines * columns

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said."""
        said = super().to_dict()
        return {
            key: value
            for key, value in said.items()
            if value or key not in ("standard", "composition_references")
        }
