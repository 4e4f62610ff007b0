"""The contracts of images at soft edges: a raster with a counter, and frames of electrons."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ._contract import Contract, Count, Energy, Positive
from ._entry import Entry
from ._soft_contract import ComponentSpectrum


class Material(Entry):
    """What the sample is made of, so that an edge is a thickness.

    Parameters
    ----------
    formula : str
        Such as "LiNi0.6Mn0.2Co0.2O2".
    density_g_cm3 : float
        Its density.
    """

    formula: Annotated[str, Field(min_length=1)]
    density_g_cm3: Positive


class OpenBeam(Entry):
    """Counts without sample from a scan of its own.

    Parameters
    ----------
    energy_ev : tuple of float, (n,)
        Increasing energies.
    rate_hz : tuple of float, (n,)
        Counts per second, corrected for dead time.
    source : str
        Which scan.
    """

    energy_ev: Annotated[tuple[Energy, ...], Field(min_length=1)]
    rate_hz: tuple[Positive, ...]
    source: str = ""

    @model_validator(mode="after")
    def _one_rate_an_energy(self) -> "OpenBeam":
        if len(self.rate_hz) != len(self.energy_ev):
            raise ValueError(f"{len(self.energy_ev)} energies and {len(self.rate_hz)} rates of the open beam")
        if any(b <= a for a, b in zip(self.energy_ev, self.energy_ev[1:], strict=False)):
            raise ValueError("the energies of the open beam must increase")
        return self


class FocusTable(Entry):
    """Where zone plate and order-sorting aperture are at which energy, as distances from the sample.

    Parameters
    ----------
    energy_ev : tuple of float, (n,)
        Increasing energies.
    zone_plate_um, aperture_um : tuple of float, (n,)
        The distances; in between they are interpolated.
    """

    energy_ev: Annotated[tuple[Energy, ...], Field(min_length=2)]
    zone_plate_um: tuple[Positive, ...]
    aperture_um: tuple[Positive, ...]

    @model_validator(mode="after")
    def _whole(self) -> "FocusTable":
        n = len(self.energy_ev)
        if len(self.zone_plate_um) != n or len(self.aperture_um) != n:
            raise ValueError(
                f"the focus table has {n} energies, {len(self.zone_plate_um)} places of the zone plate and "
                f"{len(self.aperture_um)} of the aperture"
            )
        if any(b <= a for a, b in zip(self.energy_ev, self.energy_ev[1:], strict=False)):
            raise ValueError("the energies of the focus table must increase")
        return self


class SoftImageContract(Contract):
    """Images at the energies of a soft edge.

    Parameters
    ----------
    channels : mapping of str to str
        Which device is which channel.
    components : tuple of ComponentSpectrum
        Normalised spectra of known states.
    region : str
        Name of the region, where several are measured.
    """

    channels: dict[str, str]
    components: tuple[ComponentSpectrum, ...] = ()
    region: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain data for a start document; of the optional parts, those that were said."""
        said = super().to_dict()
        optional = ("components", "region", *self._optional)
        return {key: value for key, value in said.items() if value or key not in optional}

    @property
    def _optional(self) -> tuple[str, ...]:
        return ()


class StxmContract(SoftImageContract):
    """A raster of a focus through which photons are counted, at the energies of a soft edge.

    The axis ``row`` holds the places of the lines in um, and where points are single events, ``column`` those of the
    points. The channel "line" holds the counts of a line, "counts" those of a point, "i0" a current before the sample.

    Parameters
    ----------
    columns_um : tuple of float, (n,)
        Places of the points along a line.
    snake : bool
        Whether every second line runs backward; its counts are in the order they were taken.
    order : {"image", "spectrum"}
        Whether an image is finished before the energy changes, or the spectrum of a line (or point) before the place.
    dead_time_s, dark_hz : float
        Of the counter: dead time of a count, and counts per second without beam.
    stray_share : float
        Share of the open beam that is counted whatever the sample: other orders of the zone plate.
    material : Material, optional
        What the sample is made of.
    open_beam : OpenBeam, optional
        Counts without sample from a scan of its own; by default they come from a region without sample.
    focus : FocusTable, optional
        Where zone plate and aperture stood.
    """

    technique: Literal["stxm"] = "stxm"
    columns_um: Annotated[tuple[float, ...], Field(min_length=2)]
    snake: bool = False
    order: Literal["image", "spectrum"] = "image"
    dead_time_s: Annotated[float, Field(ge=0)] = 0.0
    dark_hz: Annotated[float, Field(ge=0)] = 0.0
    stray_share: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    material: Material | None = None
    open_beam: OpenBeam | None = None
    focus: FocusTable | None = None

    @model_validator(mode="after")
    def _a_raster(self) -> "StxmContract":
        if len(self.axes.get("row", ())) < 2:
            raise ValueError("a raster needs two or more lines, the axis row")
        if self.axes.get("column", self.columns_um) != self.columns_um:
            raise ValueError("the axis column and columns_um differ")
        if ("line" in self.channels) == ("counts" in self.channels):
            raise ValueError(
                "a raster is counted by lines or by points: give one of the channels line and counts"
            )
        return self

    @property
    def rows_um(self) -> tuple[float, ...]:
        """Places of the lines."""
        return self.axes["row"]

    @property
    def _optional(self) -> tuple[str, ...]:
        return "snake", "dead_time_s", "dark_hz", "stray_share", "material", "open_beam", "focus"


class XpeemContract(SoftImageContract):
    """Frames of emitted electrons at the energies of a soft edge.

    Parameters
    ----------
    n_darks, n_flats : int
        Frames without beam, and of a surface without contrast, which give the pattern of the channel plate.
    probing_nm : float, optional
        Depth that the electrons come from.
    """

    technique: Literal["xpeem"] = "xpeem"
    n_darks: Count = 0
    n_flats: Count = 0
    probing_nm: Positive | None = None

    @property
    def events_expected(self) -> int:
        """Darks, flats and frames of the sample together."""
        return self.readings_expected + self.n_darks + self.n_flats

    @property
    def _optional(self) -> tuple[str, ...]:
        return "n_darks", "n_flats", "probing_nm"
