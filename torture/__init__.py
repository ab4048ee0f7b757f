"""Faults under load, and whether everything that was promised is true afterwards. Run it: `python -m torture --help`."""
