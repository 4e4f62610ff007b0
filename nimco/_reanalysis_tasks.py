"""The pieces of work of a reanalysis, as any process can do them."""

from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from callbacks import CallbackError
from callbacks.techniques import EstimatorOptions, StackedScan, StackFit, Tile
from edge_fitting import EdgeFitter
from nimco._reanalysis_store import StoreAddress
from nimco._stored_runs import StoredScanJob


def read_task(
    job: StoredScanJob,
    name: str,
    address: StoreAddress,
    on_document: Callable[[str], object] = lambda document: None,
) -> StackedScan | xr.Dataset:
    """Read a run, and keep its frames where the fits look for them."""
    return address.open().scan(job, name, on_document)[0]


def tile_task(
    job: StoredScanJob,
    name: str,
    address: StoreAddress,
    options: EstimatorOptions,
    tile: Tile,
    tile_bytes: int,
) -> EdgeFitter:
    """Fit a tile."""
    return _fit(job, name, address, options, tile_bytes).fit(tile)


def whole_task(
    job: StoredScanJob,
    name: str,
    address: StoreAddress,
    options: EstimatorOptions,
    tile_bytes: int,
    provenance: Mapping[str, Any],
) -> xr.Dataset:
    """Fit a run that is one tile, and return its result."""
    fit = _fit(job, name, address, options, tile_bytes)
    (tile,) = fit.tiles
    return fit.result([(tile, fit.fit(tile))], provenance)


def _fit(
    job: StoredScanJob, name: str, address: StoreAddress, options: EstimatorOptions, tile_bytes: int
) -> StackFit:
    scan, path = address.open().scan(job, name)
    if not isinstance(scan, StackedScan):
        raise CallbackError(f"run {job.uid[:8]} has no frames of a camera")
    return StackFit(scan, path, options, tile_bytes=tile_bytes)
