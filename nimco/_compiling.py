"""Compile the live fit beside other start-up work, before beam is on the sample."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from edge_fitting import EDGES, EdgeFitter, ReferenceSeries


@contextmanager
def compiling() -> Iterator[None]:
    """Compile the fitter's kernels in a thread while the block starts servers and devices.

    The first run on a machine compiles for several seconds, later ones load what was compiled.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="compile") as pool:
        pool.submit(_compile)
        yield


def _compile() -> None:
    edge = EDGES["Ni_K"]
    energy_ev = np.linspace(edge.pre_edge_ev[0], edge.post_edge_ev[1], 100)
    # What is compiled depends on types only, so any two rising edges will do.
    mu = [0.5 + np.arctan((energy_ev - edge.energy_ev - shift_ev) / 2.0) / np.pi for shift_ev in (8.0, 10.0)]
    EdgeFitter((1, 1), edge=edge.name, references=ReferenceSeries(energy_ev, mu, [0.0, 1.0])).warm_up()
