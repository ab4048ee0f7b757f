"""Who calls and whether it may: the first thing that happens to a call, before its request is looked at."""

from collections.abc import Mapping
from typing import Final

from decisiongraph_service.access import authorization
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.tokens import Caller, TokenVerifier
from decisiongraph_service.domain import errors
from decisiongraph_service.rpc.interceptors.call import Call

_SCHEME: Final = "bearer "


class Gate:
    """Lets calls in by the contract's rules. An rpc without a rule is refused."""

    def __init__(self, rules: Mapping[str, Rule], verifier: TokenVerifier) -> None:
        """`rules` by path of the rpc."""
        self._rules = rules
        self._verifier = verifier

    def admit(self, path: str, metadata: Mapping[str, str | bytes], request_id: str) -> Call:
        """The call, if its caller may make it.

        Raises:
            Unauthenticated: there is no valid token.
            Forbidden: the token lacks the role, permission or tenant.
            Unimplemented: there is no rule for such an rpc, so it is not served.
            InvalidArgument: the tenant is not named and the token allows several.
        """
        rule = self._rules.get(path)
        if rule is None:
            self._authenticate(metadata)
            raise errors.Unimplemented(path)
        if rule.public:
            return Call(request_id, None, None)
        caller = self._authenticate(metadata)
        authorization.require_powers(rule, caller)
        if rule.installation_wide:
            return Call(request_id, caller, None)
        requested = metadata.get("x-tenant-id")
        tenant_id = authorization.resolve_tenant(caller, requested if isinstance(requested, str) else None)
        return Call(request_id, caller, tenant_id)

    def _authenticate(self, metadata: Mapping[str, str | bytes]) -> Caller:
        header = metadata.get("authorization")
        if not isinstance(header, str) or not header:
            raise errors.Unauthenticated("authorization: send a token as `authorization: Bearer <token>`")
        if header[: len(_SCHEME)].lower() != _SCHEME:
            raise errors.Unauthenticated("authorization: the scheme must be Bearer; send `Bearer <token>`")
        return self._verifier.verify(header[len(_SCHEME) :].strip())
