"""What a technique is: which readings, which reducers, which estimator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from callbacks.documents import IMAGE_CHANNELS, Channel, LeftOut
from callbacks.reduce import Reduced, Reducer, RegisterChoice
from edge_fitting import OffsetChoice, ReferenceSeries
from scan_contract import Contract, RunContract


@dataclass(frozen=True)
class RunState:
    """How far the analysis of a run is.

    Attributes
    ----------
    contract : RunContract
        What the start document said.
    raw_uids : tuple of str
        The runs whose readings are in the result: this one, after those that were interrupted and that it resumes.
    frames_done, frames_expected : int
        Readings of the sample in the result, and in the whole run.
    final : bool
        Whether the run is over.
    exit_status : str or None
        How the run ended; None while it goes on.
    warnings : tuple of str
        What a reader of the result should know.
    time_s : float
        When the last reading of the result was recorded (seconds since the epoch).
    """

    contract: RunContract
    raw_uids: tuple[str, ...]
    frames_done: int
    frames_expected: int
    final: bool
    exit_status: str | None
    warnings: tuple[str, ...]
    time_s: float


class Estimator(Protocol):
    """What is known of a run from its readings so far; it can be asked after any of them."""

    def push(self, reduced: Reduced) -> None:
        """Add one; an `EdgeFittingError` refuses it, and costs that one only."""

    def retract(self, reduced: Reduced) -> None:
        """Take one out again that was added with the same values and weight."""

    def merge(self, other: Self) -> None:
        """Add all that another one of the same technique and contract was given."""

    def result(self, state: RunState) -> Any:
        """Return the result, None before there is any."""


@dataclass(frozen=True)
class EstimatorOptions:
    """What whoever starts the analysis chooses.

    Attributes
    ----------
    references : ReferenceSeries or mapping of edge name to ReferenceSeries, optional
        Spectra of known state of charge; they go before those in the start document.
    method : str
        Name of a method of the technique's estimator.
    axis_offset : {"report", "fit"} or float
        What to do about an offset between the energy axes of scan and references, see `edge_fitting.fit_stack`.
    register : {"auto", "on", "off"}
        Whether frames are moved back by the drift of the sample: when it is found to drift, always, never.
    root_map : mapping of str to str
        Where folders of the detector's files were looked for instead.
    """

    references: ReferenceSeries | Mapping[str, ReferenceSeries] | None = field(default=None, repr=False)
    method: str = "series"
    axis_offset: OffsetChoice = "report"
    register: RegisterChoice = "auto"
    root_map: Mapping[str, str] = field(default_factory=dict, repr=False)

    def references_for(self, edge: str) -> ReferenceSeries | None:
        """Return the references that were given for an edge."""
        if self.references is None or isinstance(self.references, ReferenceSeries):
            return self.references
        return self.references.get(edge)


@dataclass(frozen=True)
class Technique:
    """A way to measure, and what is made of it.

    Attributes
    ----------
    name : str
        As contracts say it.
    contract : type of Contract
        Model of its contract.
    reducers : callable
        Makes the reducers of a run, in order, from its contract and the account of what is left out.
    estimator : callable
        Makes the estimator of a run; None where the run is not for it.
    registration : callable, optional
        Puts what registers frames into the reducers of a run, from them, its contract and the options.
    comparison : callable, optional
        Puts what leaves out frames that do not belong to the others before the estimator, from the reducers of a run,
        its contract, the options and the account of what is left out.
    channels : mapping of str to Channel
        What to read of each event.
    """

    name: str
    contract: type[Contract]
    reducers: Callable[[RunContract, LeftOut], Sequence[Reducer]]
    estimator: Callable[[RunContract, EstimatorOptions], Estimator | None]
    registration: Callable[[Sequence[Reducer], RunContract, EstimatorOptions], Sequence[Reducer]] | None = (
        None
    )
    comparison: (
        Callable[[Sequence[Reducer], RunContract, EstimatorOptions, LeftOut], Sequence[Reducer]] | None
    ) = None
    channels: Mapping[str, Channel] = field(default_factory=lambda: IMAGE_CHANNELS)
