"""Keys of the metadata that belong to the schema or to whoever keeps a result: no result may use them for its own."""

CONTENTS = "contents"
"""The list of the variables and the sizes of the dimensions."""
VERSION = "version"
"""Number of the version."""
CURRENT = "current"
"""Whether it is the version that readers open."""
WRITTEN_BY = "written_by"
"""Which analysis wrote it."""
COPYING = "copying"
"""Set while a version is copied."""
ALARMS = "alarms"
"""What was wrong while the scan ran, and when: a list of alarms as plain data."""

BY_STORE = (VERSION, CURRENT, WRITTEN_BY, ALARMS)
"""What the container has and a result before it is published has not."""
SCHEMA_KEYS = ("spec", "schema_version", "signal")
"""What the schema says of a result itself."""
RESERVED_NAMES = (CONTENTS, *BY_STORE, COPYING, *SCHEMA_KEYS)
"""All that no attribute of a result may be called."""
