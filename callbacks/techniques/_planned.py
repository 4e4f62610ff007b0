"""What a contract means for its analysis."""

from dataclasses import replace

from callbacks.errors import DocumentError
from edge_fitting import EDGES, EdgeFittingError, ReferenceSeries
from scan_contract import Contract, RunContract, TomographyContract

from ._technique import EstimatorOptions

# Fewer energies on both sides of an edge do not give its position.
_FEWEST_FOR_A_POSITION = 4


def planned_frames(scan: Contract) -> int:
    """Return the number of readings of the sample in the whole scan, with those of the runs it resumes."""
    if scan.resumes is None or scan.max_frames is not None:
        return scan.readings_expected
    whole: dict[str, object] = {"take": type(scan.take)()}
    if isinstance(scan, TomographyContract):
        whole["angles_taken"] = None
    return scan.model_copy(update=whole).readings_expected


def is_jump_map(scan: Contract) -> bool:
    """Return whether energies on both sides of the edge are too few for its position: a map of the metal."""
    energies, edge_ev = set(scan.energies_ev), EDGES[scan.edge].energy_ev
    is_adaptive = (scan.model_extra or {}).get("adaptive") is not None
    return (
        not is_adaptive and len(energies) < _FEWEST_FOR_A_POSITION and min(energies) < edge_ev < max(energies)
    )


def references_of(run: RunContract) -> ReferenceSeries | None:
    """Return the reference spectra that a start document holds.

    Raises
    ------
    DocumentError
        They are none.
    """
    if run.scan.references is None:
        return None
    try:
        return ReferenceSeries.from_dict(run.scan.references)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, EdgeFittingError) as error:
        raise DocumentError(
            f"the reference spectra in the start document of run {run.raw_uid[:8]} cannot be read "
            f"({type(error).__name__}: {error}); the run is stored and not analysed"
        ) from error


def with_references(run: RunContract, options: EstimatorOptions) -> EstimatorOptions:
    """Return the options with the references of a start document where none were given, read once for all their users.

    Raises
    ------
    DocumentError
        They are none.
    """
    if options.references_for(run.scan.edge) is not None:
        return options
    references = references_of(run)
    return options if references is None else replace(options, references=references)
