"""Say in one sentence what pydantic found."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """Return where the first problem is and what it is, such as ``exposure_s.2: Input should be a finite number``."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    what = str(problem["msg"]).removeprefix("Value error, ")
    given = repr(problem.get("input"))
    shown = given if len(given) <= 60 else given[:57] + "..."
    if problem["type"] == "missing":
        return f"{where} is missing"
    if not where:
        return what
    return f"{where} is {shown}: {what[:1].lower()}{what[1:]}"
