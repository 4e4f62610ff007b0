"""Protocols the plans rely on, and ophyd classes for real hardware."""
