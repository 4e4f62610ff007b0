"""Who and what: the sample, the field of view, the proposal, and where the references came from."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ._one_sentence import first_problem
from .errors import ContractError

__all__ = ["FieldOfView", "Proposal", "ReferenceSource", "Sample", "read_sample"]


class Described(BaseModel):
    """Base of what is said about a measurement: fixed once made, further keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


Text = Annotated[str | None, BeforeValidator(lambda value: value if value is None else str(value))]


class Sample(Described):
    """The sample.

    Parameters
    ----------
    name : str
        What the group calls it.
    composition : str
        Formula, such as ``LiNi0.6Mn0.2Co0.2O2``, or a family, such as ``NMC622``.
    electrode_side : {"cathode", "anode"}
        Which electrode it is.
    part : str
        Where it was taken from, such as ``surface`` or ``current collector side``.
    cycle : float
        Cycle number; halves are half cycles.
    voltage_v : float
        Cell voltage when it was stopped or measured.
    history : str
        What happened to it before.
    """

    name: Text = None
    composition: Text = None
    electrode_side: Literal["cathode", "anode"] | None = None
    part: Text = None
    cycle: float | None = None
    voltage_v: float | None = None
    history: Text = None


class FieldOfView(Described):
    """Where on the sample the picture was taken.

    Parameters
    ----------
    name : str
        What it is called.
    row_um, column_um, z_um : float
        Position of its centre on the sample.
    """

    name: Text = None
    row_um: float | None = None
    column_um: float | None = None
    z_um: float | None = None


class Proposal(Described):
    """Under whose beam time, and where its files go.

    Parameters
    ----------
    number : str
        Number of the proposal.
    title, principal_investigator : str
        As the facility knows them.
    path : str
        Folder of the beam time.
    """

    number: Text = None
    title: Text = None
    principal_investigator: Text = None
    path: Text = None


class ReferenceSource(Described):
    """Where a reference spectrum came from.

    Parameters
    ----------
    name : str
        Name of the spectrum or of the standard.
    source : str
        A run's uid, a file's name, or an entry of the reference library.
    version : str
        Version of that entry.
    foil, definition : str
        What its energy axis was calibrated with, and by which definition of the edge energy.
    shift_ev : float
        Shift that the calibration applied.
    """

    name: Text = None
    source: Text = None
    version: Text = None
    foil: Text = None
    definition: Text = None
    shift_ev: float | None = None


def read_sample(value: Any) -> Sample | None:
    """Read a sample from a document: a mapping, or just its name.

    Returns
    -------
    Sample or None
        None where nothing is said.

    Raises
    ------
    ContractError
        For a mapping with a value that cannot be what its key says.
    """
    if value is None or isinstance(value, Sample):
        return value
    if not isinstance(value, Mapping):
        return Sample(name=str(value))
    try:
        return Sample.model_validate({str(key): entry for key, entry in value.items()})
    except ValidationError as error:
        raise ContractError(f"the sample cannot be described so: {first_problem(error)}") from None
