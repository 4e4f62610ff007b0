"""A digital twin of a full-field absorption beamline, as ophyd devices."""
