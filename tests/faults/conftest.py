"""Starts Postgres again while calls are running, which is a fork among the threads of gRPC."""

import os

# Its fork handlers, which only a child that goes on to use gRPC needs, crash the child now and then before it becomes
# Postgres. Read when the first channel is made.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
