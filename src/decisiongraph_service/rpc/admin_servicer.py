"""AdminService: the contract has it, no rpc of it is implemented yet."""

from decisiongraph.v1 import admin_service_pb2_grpc


class AdminServicer(admin_service_pb2_grpc.AdminServiceServicer):
    """Refuses every rpc as not implemented, after it has seen that the caller may call it."""
