"""Pilvi: a machine-learning cloud that people own, spoken to by unmodified AWS clients."""

__version__ = "0.1.0"
