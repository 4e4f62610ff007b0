"""What a picture or a file calls the measurement."""

from collections.abc import Mapping
from typing import Any


def sample_name(attrs: Mapping[str, Any]) -> str:
    """Return the name of the sample of a result, or else that of the plan.

    Parameters
    ----------
    attrs : mapping
        Attributes of the result; up to 0.2.0 ``sample`` was the name itself.
    """
    sample = attrs.get("sample")
    if isinstance(sample, Mapping):
        sample = sample.get("name")
    return str(sample or attrs.get("plan_name") or "")
