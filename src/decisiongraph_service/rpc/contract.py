"""What the contract says of each rpc: its services, its methods, and who may call them.

Read from the generated descriptors, so that an rpc without an authorization cannot be served.
"""

from collections.abc import Iterator
from typing import Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from decisiongraph.v1 import (
    access_service_pb2,
    admin_service_pb2,
    authorization_pb2,
    ingestion_service_pb2,
    query_service_pb2,
    system_service_pb2,
)
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.rpc.access_messages import PERMISSIONS, ROLES

SERVICES: Final[tuple[ServiceDescriptor, ...]] = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (ingestion_service_pb2, "IngestionService"),
        (query_service_pb2, "QueryService"),
        (admin_service_pb2, "AdminService"),
        (access_service_pb2, "AccessService"),
        (system_service_pb2, "SystemService"),
    )
)


def methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every rpc of the contract with its path, `/decisiongraph.v1.QueryService/GetTrace`."""
    for service in SERVICES:
        for method in service.methods:
            yield f"/{service.full_name}/{method.name}", method


def authorization_rules() -> dict[str, Rule]:
    """The rule of every rpc, by path.

    Raises:
        ValueError: an rpc declares nothing, or contradicts itself.
    """
    return {path: _rule(path, method) for path, method in methods()}


def _rule(path: str, method: MethodDescriptor) -> Rule:
    options = method.GetOptions()
    declared: authorization_pb2.Authorization = options.Extensions[authorization_pb2.authorization]  # type: ignore[index]
    if declared.public:
        if declared.role or declared.permissions:
            raise ValueError(f"{path} is declared public and asks for a role or permission; declare one or the other")
        return Rule(role=None, installation_wide=True)
    role = ROLES.get(declared.role)
    if role is None:
        raise ValueError(f"{path} declares no role; give it the option decisiongraph.v1.authorization in the contract")
    if any(permission not in PERMISSIONS for permission in declared.permissions):
        raise ValueError(f"{path} declares PERMISSION_UNSPECIFIED; name a permission or leave them out")
    permissions = tuple(PERMISSIONS[permission] for permission in declared.permissions)
    return Rule(role, permissions, declared.installation_wide)
