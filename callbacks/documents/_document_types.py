"""Types of documents that travel with their names.

What has passed its checks has event-model's type of its kind (`Event`, `EventDescriptor`, `StreamDatum` and so on).
Before, any key may be missing or hold anything, and a start document keeps keys of its own (`xanes`, `scan_group`),
which event-model's `RunStart` does not name.
"""

from typing import Any

AnyDocument = dict[str, Any]
"""A document of whatever kind, its form not checked."""

NamedDocument = tuple[str, AnyDocument]
"""Name and document, as a RunEngine tells them."""
