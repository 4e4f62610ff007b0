"""Make the golden values of ``test_edge_fitting_normalization.py`` with Larch.

Run it in an environment of its own that has ``xraylarch``::

    python tests/golden/larch_normalization.py

The spectra are analytic, made here; the values next to this file are what ``larch.xafs.pre_edge`` says of them.
"""

import json
from pathlib import Path

import numpy as np

#: e0, pre-edge window, post-edge window, order, and step and seed of the grid.
CASES = [
    {"e0": 8343.0, "pre": [-140.0, -40.0], "post": [60.0, 340.0], "order": 2, "kind": "fine"},
    {"e0": 8343.4, "pre": [-133.0, -21.5], "post": [77.0, 301.0], "order": 1, "kind": "fine"},
    {"e0": 8344.0, "pre": [-150.0, -30.0], "post": [90.0, 346.0], "order": 0, "kind": "coarse"},
    {"e0": 8341.7, "pre": [-100.0, -25.0], "post": [50.0, 200.0], "order": 2, "kind": "coarse"},
    {"e0": 8345.0, "pre": [-130.0, -60.0], "post": [100.0, 260.0], "order": 1, "kind": "coarse"},
]


def spectrum(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Energies and absorption of an analytic spectrum with background, white line, fine structure and noise."""
    if kind == "fine":
        energy = np.arange(8190.0, 8700.0, 0.7)
    else:
        regions = (np.arange(8190, 8330, 10.0), np.arange(8330, 8380, 1.0), np.arange(8380, 8700, 12.5))
        energy = np.concatenate(regions)
    x = energy - 8343.0
    wave = np.where(x > 0, 0.06 * np.sin(0.09 * np.abs(x) ** 0.9) * np.exp(-np.abs(x) / 200.0), 0.0)
    step = 0.5 + np.arctan(x / 1.4) / np.pi
    mu = (
        0.83 - 4e-4 * x + 1e-7 * x**2 + 0.47 * (step * (1.0 + wave) + 0.6 * np.exp(-(((x - 8.0) / 3.0) ** 2)))
    )
    return energy, mu + 2e-3 * np.random.default_rng(len(kind)).standard_normal(energy.size)


def main() -> None:
    """Write ``larch_normalization.json``."""
    from larch import Group, __version__
    from larch.xafs import pre_edge

    found = []
    for case in CASES:
        energy, mu = spectrum(case["kind"])
        group = Group(energy=energy, mu=mu)
        (pre1, pre2), (norm1, norm2) = case["pre"], case["post"]
        pre_edge(
            group, e0=case["e0"], pre1=pre1, pre2=pre2, norm1=norm1, norm2=norm2, nnorm=case["order"], nvict=0
        )
        every = slice(None, None, 7 if case["kind"] == "fine" else 1)
        found.append(
            {
                **case,
                "edge_step": float(group.edge_step),
                "norm": group.norm[every].tolist(),
                "flat": group.flat[every].tolist(),
                "stride": every.step or 1,
            }
        )
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps({"larch": __version__, "cases": found}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
