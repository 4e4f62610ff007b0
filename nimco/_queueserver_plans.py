"""Plans as a queue server offers them: every parameter with a description and a type that it enforces."""

import inspect
from collections.abc import Callable, Generator, Mapping
from functools import wraps
from typing import Any, Literal, Optional, Union, get_args, get_origin

from scan_contract import optional_import

with optional_import("queueserver", "plans of the queue server"):
    from numpydoc.docscrape import NumpyDocString, Parameter

EdgeName = Literal["Ni_K", "Co_K", "Mn_K", "Ni_L3", "Ni_L2", "Co_L3", "Co_L2", "Mn_L3", "Mn_L2"]

SoftEdgeName = Literal["Ni_L3", "Co_L3", "Mn_L3", "O_K"]

Plan = Callable[..., Generator[Any, Any, Any]]

# Types that hold for what can be sent to a queue, where a plan also takes objects of Python.
# The queue server evaluates their text, in which it knows the names of `typing` only.
_TYPES: Mapping[str, Any] = {
    "edge": EdgeName,
    "edges": list[EdgeName],
    "grid": Optional[Union[str, dict]],  # noqa: UP007, UP045
}
_POINTER = "As for `"


def queue_plan(
    plan: Plan, like: Plan | None = None, *, given: Mapping[str, Any] | None = None, **types: Any
) -> Plan:
    """Return a plan with the signature and docstring that a queue server shows and checks.

    Parameters
    ----------
    plan : callable
        A plan of `beamline_plans`; what it does stays as it is.
    like : callable, optional
        The plan whose docstring describes what ``plan`` describes as "As for `xanes_scan`".
    given : mapping, optional
        Arguments that are the same for every item of the queue; they are not offered.
    **types
        Annotations of parameters in place of those of the plan. A `Literal` makes its first value the default.

    Returns
    -------
    callable
        A generator function with the name of the plan.
    """
    fixed = dict(given or {})

    @wraps(plan)
    def queued(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        filled = {**defaults, **kwargs}
        return (yield from plan(*args, **fixed, **filled))

    signature = inspect.signature(plan)
    parameters, defaults = [], {}
    for parameter in signature.parameters.values():
        name = parameter.name
        if name in fixed:
            continue
        if name in types:
            kind, default = types[name], _as_list(parameter.default)
            if get_origin(kind) is Literal:
                default = defaults[name] = get_args(kind)[0]
            parameter = parameter.replace(annotation=kind, default=default)
        elif name in _TYPES:
            parameter = parameter.replace(annotation=_TYPES[name], default=_as_list(parameter.default))
        parameters.append(parameter)
    queued.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    queued.__doc__ = _docstring(plan, like, [parameter.name for parameter in parameters])
    return queued


def _as_list(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _docstring(plan: Plan, like: Plan | None, names: list[str]) -> str:
    doc = NumpyDocString(inspect.getdoc(plan) or "")
    own = _descriptions(doc)
    shared = {} if like is None else _descriptions(NumpyDocString(inspect.getdoc(like) or ""))
    described = []
    for name in names:
        kind, lines = own.get(name, ("", []))
        if not lines or lines[0].startswith(_POINTER) or lines[0].startswith("The devices"):
            kind, lines = shared.get(name, (kind, lines))
        described.append(Parameter(name, kind, lines))
    doc["Parameters"] = described
    return str(doc)


def _descriptions(doc: NumpyDocString) -> dict[str, tuple[str, list[str]]]:
    return {
        name.strip(): (parameter.type, parameter.desc)
        for parameter in doc["Parameters"]
        for name in parameter.name.split(",")
    }
