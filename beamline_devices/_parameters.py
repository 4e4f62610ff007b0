"""Numbers and words that belong to a device and live in the control session, not in an IOC."""

from typing import Any

from ophyd import Kind, Signal

__all__ = ["Parameter"]


class Parameter(Signal):
    """Soft signal that describes itself completely.

    Parameters
    ----------
    units : str
        Unit of a number, empty for none.
    precision : int
        Digits after the point worth showing.
    choices : tuple of str, optional
        Words it takes, for one that is a word.
    """

    def __init__(
        self,
        *,
        units: str = "",
        precision: int = 3,
        choices: tuple[str, ...] | None = None,
        kind: Kind | str = Kind.config,
        **kwargs: Any,
    ) -> None:
        super().__init__(kind=kind, **kwargs)
        self._units = units
        self._precision = precision
        self.choices = choices

    def describe(self) -> dict[str, Any]:
        """Return the data key of the signal."""
        entry: dict[str, Any] = {"source": self.source_name, "shape": [], "units": self._units}
        if self.choices is not None:
            entry.update(dtype="string", dtype_numpy="<U40", choices=list(self.choices))
        elif isinstance(self.get(), str):
            entry.update(dtype="string", dtype_numpy="<U200")
        elif isinstance(self.get(), int):
            entry.update(dtype="integer", dtype_numpy="<i8")
        else:
            entry.update(dtype="number", dtype_numpy="<f8", precision=self._precision)
        return {self.name: entry}
