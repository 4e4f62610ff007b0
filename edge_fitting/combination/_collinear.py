"""References that cannot be told apart at the energies of a scan."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Belsley, Kuh and Welsch, Regression Diagnostics (Wiley 1980), section 3.2: from 30 on the dependence is strong.
_STRONG = 30.0


def collinear_warnings(gram: Array, states: Array, n_frames: int) -> tuple[str, ...]:
    """Say which references look alike beside a line of their own.

    Parameters
    ----------
    gram : ndarray, shape (2 + n_ref, 2 + n_ref)
        Gram matrix of a line and the references at the energies of the scan.
    states : ndarray, shape (n_ref,)
        States of the references, to name them.
    n_frames : int
        Number of frames; with no more than there are functions nothing is said of the references.

    Returns
    -------
    tuple of str
        One sentence where the condition number of the references, scaled to the same length, exceeds 30: it names
        the two that most take part in the dependence.
    """
    if n_frames <= gram.shape[0]:
        return ()
    line = gram[:2, :2]
    reduced = gram[2:, 2:] - gram[2:, :2] @ np.linalg.lstsq(line, gram[:2, 2:], rcond=None)[0]
    length = np.sqrt(np.maximum(np.diag(reduced), 0.0))
    if not (length > 1e-9 * np.sqrt(np.diag(gram)[2:])).all():
        return ()  # one of them is a line itself at these energies: no edge was scanned
    correlation = reduced / np.outer(length, length)
    values, vectors = np.linalg.eigh(correlation)
    condition = np.sqrt(values[-1] / max(values[0], 1e-14 * values[-1]))
    if not condition > _STRONG:
        return ()
    first, second = np.sort(np.argsort(np.abs(vectors[:, 0]))[-2:])
    apart = "cannot be told apart" if condition > 1e6 else "can hardly be told apart"
    return (
        f"the references {first + 1} and {second + 1} (states {states[first]:g} and {states[second]:g}) {apart} at the "
        f"energies of this scan: their correlation is {correlation[first, second]:.4f}, the condition number of all "
        f"references {condition:.1e}, where 30 is much; leave one of them out, or add energies where they differ.",
    )
