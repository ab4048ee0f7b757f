"""The tests, and what must be so before any of them imports gRPC."""

import os

# Tests start processes while calls are running. The fork handlers of gRPC, which only a child that goes on to use gRPC
# needs, crash such a child now and then before it becomes another program. Read when gRPC is imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
