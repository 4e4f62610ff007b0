"""What plans that go on with an aborted run share."""

from collections.abc import Mapping
from typing import Any, Optional, TypeVar

from beamline_plans.errors import PlanError
from scan_contract import CONTRACT_KEY, PROVENANCE_KEYS, Contract

from ._request import check_provenance

T = TypeVar("T")

_MADE_BY_THE_RUN_ENGINE = {"uid", "time", "scan_id", "versions", "plan_type", CONTRACT_KEY, "num_points"}


def run_that_begins_with(uid: str, runs: Mapping[str, T], what: str, advice: str) -> T:
    """Return what is known of the one run whose uid begins so.

    Raises
    ------
    PlanError
        If there is none or more than one; `what` names its kind, and `advice` says what to do.
    """
    found = [run for run in runs if uid and run.startswith(uid)]
    if len(found) != 1:
        raise PlanError(
            f"{f'No {what}' if not found else f'More than one {what}'} of this session begins with {uid!r}; {advice}."
        )
    return runs[found[0]]


def metadata_to_keep(start: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a run that one which goes on with it has, too."""
    return {key: value for key, value in start.items() if key not in _MADE_BY_THE_RUN_ENGINE}


def entries_to_keep(scan: Contract, resumes: str, md: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """Return who and what of the contract of a run, or what new metadata say of it, and which run is gone on with."""
    return {
        **{name: getattr(scan, name) for name in PROVENANCE_KEYS},
        **{name: said for name, said in check_provenance(md).items() if said is not None},
        "reference_sources": scan.reference_sources,
        "resumes": resumes,
    }
