"""`nimco demo --technique soft_xas`: samples of a published table by two yields, live into Tiled, against the truth."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bluesky import RunEngine
from rich.table import Table

from beamline_plans import soft_xas_scan
from edge_fitting import soft_edge
from nimco._demo_points import run_point_demo
from nimco._session import Session
from nimco.errors import NimcoError
from sim_devices import (
    PUBLISHED_GAMMA,
    SOFT_COMPONENTS,
    SOFT_SAMPLES,
    SimSoftBeamline,
    SoftSettings,
    SoftTruth,
    soft_spectrum,
)

_N_DARKS = 3
# Top of the white line of NiO, whose drain current is the reference.
_LINE = {"Ni_L3": {"energy_ev": 853.0, "sigma_ev": 0.02, "name": "NiO L3"}}
_BULK_SIGMA = 0.02
_REFERENCE_EV = {"Ni_L3": np.arange(805.0, 925.0, 0.1)}


def demo(
    *, data_dir: Path, seed: int, port: int, hold: bool, edges: str, soc_range: str | None, **_: Any
) -> None:
    """Measure the samples of the published table at Ni L2,3, and compare what is found with the truth of the twin."""
    if soft_edge(edges).name != "Ni_L3":
        raise NimcoError(
            f"the demonstration of soft XAS measures the table of Ni L2,3, not {edges}: leave --edges out, or run "
            "soft_xas_scan yourself for other edges"
        )
    run_point_demo(
        list(PUBLISHED_GAMMA),
        lambda: SimSoftBeamline(seed=seed),
        _measure,
        _table,
        data_dir=data_dir,
        port=port,
        hold=hold,
        shown="tey_normalized",
    )


def _measure(
    run_engine: RunEngine, session: Session, beamline: SimSoftBeamline, name: str
) -> tuple[xr.Dataset, SoftTruth]:
    """Measure one sample; its result, and what is true."""
    beamline.load(name)
    valence = SOFT_SAMPLES[name].ni_valence
    run_engine(
        soft_xas_scan(
            beamline.energy,
            edges=["Ni_L3"],
            i0=beamline.mesh,
            tey=beamline.tey,
            fy=beamline.fy,
            iref=beamline.reference,
            shutter=beamline.shutter,
            n_darks=_N_DARKS,
            components={"Ni_L3": nickel_components()},
            lines=_LINE,
            bulk={"Ni_L3": {"valence": valence, "sigma": _BULK_SIGMA, "source": "Ni K edge, simulated"}},
            md={"sample": {"name": name}},
        )
    )
    session.live.wait()
    return session.live.latest(), beamline.truth()


def nickel_components() -> list[dict[str, Any]]:
    """Return the spectra of Ni2+, Ni3+ and Ni4+, as references of the linear combination."""
    energy_ev = _REFERENCE_EV["Ni_L3"]
    power = SoftSettings().resolving_power
    return [
        {
            "name": name,
            "energy_ev": energy_ev.tolist(),
            "normalized_mu": soft_spectrum("Ni_L3", name, energy_ev, power).tolist(),
            "valence": one.valence,
        }
        for name, one in SOFT_COMPONENTS["Ni_L3"].items()
    ]


def _table(found: list[tuple[xr.Dataset, SoftTruth]]) -> Table:
    """Return what was found beside what is true and what was published."""
    table = Table(title="Ni L2,3 by two yields", title_justify="left")
    for head in ("", "found", "sigma", "truth", "error", "published"):
        table.add_column(head, justify="right" if head else "left")
    for result, truth in found:
        name = str(result.attrs["sample"]["name"])
        table.add_row(name, *[""] * 5)
        tey, fy = PUBLISHED_GAMMA[name]
        rows = (
            ("gamma, electron yield", "tey_gamma", truth.gamma["tey"], f"{tey:.2f}"),
            ("gamma, fluorescence yield", "fy_gamma", truth.gamma["fy"], f"{fy:.2f}"),
            ("Delta gamma", "delta_gamma", truth.gamma["fy"] - truth.gamma["tey"], f"{fy - tey:.2f}"),
            ("layer (nm)", "point_nm", truth.layer_nm, ""),
            ("reduced part of it", "point_reduced_fraction", truth.reduced_fraction, ""),
            ("axis offset (eV)", "axis_offset_ev", -truth.axis_offset_ev, ""),
        )
        for label, key, known, published in rows:
            value = float(result[key])
            spread = [
                float(result[f"{key}_{kind}"])
                for kind in ("sigma", "systematic")
                if f"{key}_{kind}" in result
            ] or [float(result["axis_offset_sigma_ev"])]
            table.add_row(
                f"  {label}",
                f"{value:.3f}",
                f"{math.hypot(*spread):.3f}",
                f"{known:.3f}",
                f"{value - known:+.3f}",
                published,
            )
    return table
