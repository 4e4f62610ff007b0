"""Errors of a worker: the last ones are kept, each is logged once."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from callbacks.errors import CallbackError

logger = logging.getLogger("nimco.callbacks")

_KEPT_ERRORS = 100
_KNOWN_KEYS = 1000


class FirstTime:
    """Knows what has been met before; of more than a thousand the oldest are forgotten, and met anew."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: Hashable) -> bool:
        """Return whether this is met for the first time."""
        with self._lock:
            is_new = key not in self._known
            self._known[key] = None
            if len(self._known) > _KNOWN_KEYS:
                self._known.popitem(last=False)
            return is_new


class ErrorLog:
    """Keeps the last hundred errors and logs each text once, whatever thread they come from.

    Parameters
    ----------
    name : str
        Whose errors they are; stands before those that are not expected.

    Attributes
    ----------
    errors : list of BaseException
        The last ones, each as often as it came.
    """

    def __init__(self, name: str) -> None:
        self.errors: list[BaseException] = []
        self._name = name
        self._is_new = FirstTime()

    def expected(self, error: BaseException, *, key: str | None = None, named: bool = False) -> None:
        """Keep an error whose text says what a user needs to know; it is logged once per key, by default per text."""
        self._keep(error)
        if self._is_new(str(error) if key is None else key):
            logger.error("%s%s", f"{self._name}: " if named else "", error)

    def unexpected(self, error: BaseException, consequence: str = "") -> None:
        """Keep an error of any class; it is logged once per text with its trace, and with what follows from it."""
        self._keep(error)
        text = f"{type(error).__name__}: {error}"
        if self._is_new(text):
            logger.error("%s%s: %s", self._name, consequence, text, exc_info=error)

    def guarded(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function; what it raises is kept and logged."""
        try:
            function(*arguments)
        except CallbackError as error:
            self.expected(error)
        except Exception as error:
            self.unexpected(error)

    def _keep(self, error: BaseException) -> None:
        self.errors.append(error)
        del self.errors[:-_KEPT_ERRORS]
