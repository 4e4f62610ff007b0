"""Colours of lines and letters."""

INK = "#222222"
ACCENT = "#0072b2"
SECOND = "#d55e00"
