"""A stored run through the reducers of the live analysis, at once and on the thread of who asks."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from callbacks.documents import RootMap, RunRouting, read_run
from callbacks.errors import CallbackError, SpoolError
from scan_contract import CONTRACTS, is_energy_scan

from ._depth_stack import DepthStack, StackedScan
from ._full_field import FULL_FIELD
from ._known import KNOWN_TECHNIQUES
from ._pipeline import RunPipeline
from ._provenance import provenance_of
from ._technique import Estimator, EstimatorOptions

_LOG = logging.getLogger("nimco.callbacks")
# Frames are compared with each other by the references of a fit, so that is left to the fit.
_STACKED = replace(FULL_FIELD, comparison=None)
_TECHNIQUES = {technique.name: technique for technique in KNOWN_TECHNIQUES} | {_STACKED.name: _STACKED}
_CONTRACTS = {**CONTRACTS, **{technique.name: technique.contract for technique in _TECHNIQUES.values()}}


def read_scan(
    documents: Iterable[tuple[str, dict[str, Any]]],
    options: EstimatorOptions,
    path: Path,
    *,
    on_document: Callable[[str], object] = lambda name: None,
) -> StackedScan | xr.Dataset:
    """Take the documents of a stored run, after those of the interrupted runs that it resumes.

    Parameters
    ----------
    documents : iterable of (str, dict)
        As `documents_of` tells them.
    options : EstimatorOptions
        Of these, the registration and the folders matter to full-field runs, all of them to others.
    path : Path
        File for the corrected frames of a full-field run.
    on_document : callable
        Called with the name of each document that has been dealt with.

    Returns
    -------
    StackedScan or xarray.Dataset
        Of a full-field run, what a `StackFit` fits; of another one, its result.

    Raises
    ------
    CallbackError
        It cannot be analysed, or holds no frames.
    """
    routing = RunRouting()
    run: RunPipeline | None = None
    stack: DepthStack | None = None
    roots = RootMap(options.root_map)
    try:
        for name, doc in documents:
            uid = routing.run_of(name, doc)
            if name == "start" and is_energy_scan(doc):
                contract = read_run(doc, _CONTRACTS)
                technique = _TECHNIQUES.get(contract.scan.technique)
                if technique is None:
                    raise CallbackError(
                        f"run {contract.raw_uid[:8]} was measured with the technique {contract.scan.technique!r}, "
                        "which is not analysed"
                    )
                estimator: Estimator | None
                if technique is _STACKED:
                    estimator = stack = DepthStack(path) if stack is None else stack
                else:
                    estimator = technique.estimator(contract, options)
                if estimator is None:
                    raise CallbackError(
                        f"run {contract.raw_uid[:8]} is a bulk standard, of which there is no result without references"
                    )
                before = run
                run = RunPipeline(technique, contract, estimator, roots=roots, options=options)
                if before is not None and before.scan.edge == contract.scan.edge:
                    run.resume(before)
            elif run is not None and uid == run.contract.raw_uid:
                _add(run, name, doc)
            on_document(name)
        if run is None:
            raise CallbackError("these documents hold no energy scan")
        result = run.result()
        if result is None:
            why = "; ".join(run.warnings())
            raise CallbackError(
                f"run {run.contract.raw_uid[:8]} holds no frame that can be used{': ' if why else ''}{why}"
            )
        if isinstance(result, StackedScan):
            return result
        made: xr.Dataset = result.assign_attrs({**provenance_of(run.contract, options), **result.attrs})
        return made
    finally:
        if run is not None:
            run.close()
        if stack is not None:
            stack.close()


def provenance_of_scan(scan: StackedScan, options: EstimatorOptions) -> Mapping[str, Any]:
    """Return who, what and which analysis, for a `StackFit`: a new analysis with each call."""
    return provenance_of(scan.state.contract, options)


def _add(run: RunPipeline, name: str, doc: dict[str, Any]) -> None:
    try:
        run.add(name, doc)
    except SpoolError:
        raise  # nothing more can be kept
    except CallbackError as error:
        _LOG.debug(
            "run %s: %s", run.contract.raw_uid[:8], error
        )  # what it cost is said in the result's warnings
