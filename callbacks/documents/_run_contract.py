"""The contract of a run as the analysis takes it: read, checked, and with the edge by its one name."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from callbacks.errors import DocumentError
from edge_fitting import EdgeFittingError, edge_name, soft_edge
from scan_contract import (
    CONTRACTS,
    Contract,
    ContractError,
    RunContract,
    SoftContract,
    SoftImageContract,
    read_contract,
)

from ._read_only import read_only

MOST_ENERGIES = 20_000


def read_run(start: Mapping[str, Any], contracts: Mapping[str, type[Contract]] = CONTRACTS) -> RunContract:
    """Read the contract from a start document, for an analysis.

    Parameters
    ----------
    start : mapping
        The start document.
    contracts : mapping of str to type of Contract
        The model of each technique.

    Returns
    -------
    RunContract
        Its edge is a key of `edge_fitting.EDGES`, of soft XAS one of `SOFT_EDGES`; its start document is read-only,
        since every result hands it on.

    Raises
    ------
    DocumentError
        Where there is no contract, one of another version, one that says what cannot be, an edge that is not known, or
        too many energies.
    """
    try:
        run = read_contract(start, contracts)
        edge = soft_edge(run.scan.edge).name if is_soft(run.scan) else edge_name(run.scan.edge)
    except (ContractError, EdgeFittingError) as error:
        raise DocumentError(f"{_named(start, error)}; the run is stored and not analysed") from error
    n_energies = len(run.scan.energies_ev)
    if n_energies > MOST_ENERGIES:
        # The fit keeps a few numbers per energy and position along the references.
        raise DocumentError(
            f"run {run.raw_uid[:8]} plans {n_energies} energies, and maps of up to {MOST_ENERGIES} can be made"
        )
    return replace(run, scan=run.scan.model_copy(update={"edge": edge}), start=read_only(start))


def is_soft(scan: Contract) -> bool:
    """Return whether the edge is one of `edge_fitting.SOFT_EDGES`, of which L3 stands for L3 and L2."""
    return isinstance(scan, SoftContract | SoftImageContract)


def _named(start: Mapping[str, Any], error: Exception) -> str:
    """Say which run it is where the sentence does not."""
    if isinstance(error, ContractError):
        return str(error)
    return f"run {str(start.get('uid'))[:8]} cannot be analysed: {str(error).rstrip('.')}"
