"""What a result says of the measurement and of the analysis, whatever the technique."""

import time
import uuid
from typing import Any

from callbacks.documents import LAYOUT_KEY, read_only
from callbacks.results import plain_metadata, software_versions
from scan_contract import RunContract

from ._technique import EstimatorOptions

_WHO_AND_WHAT = ("sample", "field_of_view", "proposal")
_PLANNED = ("n_darks", "left_out_ev")


def provenance_of(contract: RunContract, options: EstimatorOptions) -> dict[str, Any]:
    """Return who and what was measured, where the references came from, and which analysis this is.

    Parameters
    ----------
    contract : RunContract
        What the start document said.
    options : EstimatorOptions
        What whoever starts the analysis chose.

    Returns
    -------
    dict
        Attributes of every result of this analysis of the run: ``sample``, ``field_of_view``, ``proposal`` (empty
        where nothing was said), ``reference_sources``, ``plan_name``, ``versions`` and ``analysis``: its ``id``,
        when it ``began_s`` (seconds since the epoch), and its ``options``.
    """
    scan, start = contract.scan, contract.start
    said = scan.to_dict()
    given = options.references_for(scan.edge)
    if given is not None:
        references, sources = "given to the analysis", list(given.sources)
    elif scan.references is not None:
        references, sources = "in the start document", said.get("reference_sources", [])
    else:
        references, sources = None, []
    about: dict[str, Any] = {
        **{name: said.get(name, {}) for name in _WHO_AND_WHAT},
        "plan_name": str(start.get("plan_name") or ""),
        "reference_sources": sources,
        "versions": software_versions(),
        "analysis": {
            "id": uuid.uuid4().hex,
            "began_s": time.time(),
            "options": {
                "method": options.method,
                "axis_offset": options.axis_offset,
                "register": options.register,
                "references": references,
                **({"layout": start[LAYOUT_KEY]} if LAYOUT_KEY in start else {}),
                **({"root_map": dict(options.root_map)} if options.root_map else {}),
                **{name: said[name] for name in _PLANNED if said.get(name) is not None},
            },
        },
    }
    held: dict[str, Any] = read_only(plain_metadata(about))
    return held
