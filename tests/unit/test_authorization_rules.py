"""Every rpc declares who may call it, and a contract where one does not cannot be served."""

from typing import Any
from unittest.mock import Mock

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2

from decisiongraph.v1 import authorization_pb2
from decisiongraph_service.access import tokens
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.revocations import Revocations
from decisiongraph_service.access.tokens import TokenVerifier
from decisiongraph_service.domain import errors
from decisiongraph_service.rpc import contract
from decisiongraph_service.rpc.interceptors.authentication import Gate

PUBLIC = {
    *("IssueToken", "GetJsonWebKeySet"),
    *("GetLiveness", "GetReadiness", "GetOpenApi", "GetDocs", "GetDocsAsset", "GetLandingPage"),
}


class Declaring:
    """A method with an authorization of its own."""

    def __init__(self, **authorization: Any) -> None:
        self._options = descriptor_pb2.MethodOptions()
        declared = authorization_pb2.Authorization(**authorization)
        self._options.Extensions[authorization_pb2.authorization].CopyFrom(declared)  # type: ignore[index]

    def GetOptions(self) -> descriptor_pb2.MethodOptions:  # noqa: N802 - as descriptors have it
        return self._options


def test_every_rpc_has_a_rule() -> None:
    rules = contract.authorization_rules()
    assert set(rules) == {path for path, _ in contract.methods()}
    assert all(rule.public or rule.role in tokens.ROLES for rule in rules.values())
    assert all(set(rule.permissions) <= set(tokens.PERMISSIONS) for rule in rules.values())


def test_only_these_rpcs_are_public() -> None:
    assert {path.split("/")[2] for path, rule in contract.authorization_rules().items() if rule.public} == PUBLIC


def test_every_administrative_rpc_needs_a_permission() -> None:
    rules = contract.authorization_rules()
    assert [path for path, rule in rules.items() if rule.role == "admin" and not rule.permissions] == []
    assert {rule.role for path, rule in rules.items() if "AdminService" in path} == {"admin"}


def test_an_rpc_that_declares_nothing_stops_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    undeclared = health_pb2.DESCRIPTOR.services_by_name["Health"].methods[0]
    monkeypatch.setattr(contract, "methods", lambda: iter([("/a.B/C", undeclared)]))
    with pytest.raises(ValueError, match=r"/a\.B/C declares no role"):
        contract.authorization_rules()


@pytest.mark.parametrize(
    "authorization",
    [
        {"public": True, "role": authorization_pb2.ROLE_READER},
        {"public": True, "permissions": [authorization_pb2.PERMISSION_AUDIT_READ]},
        {"permissions": [authorization_pb2.PERMISSION_AUDIT_READ]},
        {"installation_wide": True},
        {},
    ],
)
def test_an_rpc_that_contradicts_itself_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, authorization: dict[str, Any]
) -> None:
    monkeypatch.setattr(contract, "methods", lambda: iter([("/a.B/C", Declaring(**authorization))]))
    with pytest.raises(ValueError, match=r"/a\.B/C"):
        contract.authorization_rules()


def test_a_permission_that_means_nothing_stops_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    unspecified = Declaring(role=authorization_pb2.ROLE_ADMIN, permissions=[authorization_pb2.PERMISSION_UNSPECIFIED])
    monkeypatch.setattr(contract, "methods", lambda: iter([("/a.B/C", unspecified)]))
    with pytest.raises((ValueError, KeyError)):
        contract.authorization_rules()


def test_an_rpc_without_a_rule_lets_nobody_in() -> None:
    verifier = TokenVerifier({}, issuer="us", audience="here", clock=lambda: 0.0)
    gate = Gate({"/a.B/C": Rule(role=None, installation_wide=True)}, verifier, Mock(spec=Revocations))
    with pytest.raises(errors.Unauthenticated):
        gate.authenticate("/a.B/Other", {})
    with pytest.raises(errors.Unimplemented):
        gate.admit("/a.B/Other", None, {}, "id")
    assert gate.authenticate("/a.B/C", {}) is None
    assert gate.admit("/a.B/C", None, {}, "id").caller is None


def test_a_private_rpc_lets_nobody_in_without_a_caller() -> None:
    verifier = TokenVerifier({}, issuer="us", audience="here", clock=lambda: 0.0)
    gate = Gate({"/a.B/C": Rule(role="reader")}, verifier, Mock(spec=Revocations))
    with pytest.raises(errors.Unauthenticated):
        gate.admit("/a.B/C", None, {}, "id")
