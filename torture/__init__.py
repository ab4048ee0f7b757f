"""Faults under load, and whether what was promised is true afterwards. `python -m torture --help`."""

import os

# The programs that are started here are forked beside threads that call gRPC: its own handlers of forks are in the way.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
