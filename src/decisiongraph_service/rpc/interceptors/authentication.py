"""Who calls and whether it may: the first thing that happens to a call, before its request is looked at."""

import contextlib
from collections.abc import Mapping
from typing import Final

from decisiongraph_service.access import authorization
from decisiongraph_service.access.authorization import Rule
from decisiongraph_service.access.revocations import Revocations
from decisiongraph_service.access.tokens import Caller, TokenVerifier
from decisiongraph_service.domain import errors
from decisiongraph_service.rpc.interceptors.call import Call

_SCHEME: Final = "bearer "


class Gate:
    """Lets calls in by the contract's rules. An rpc without a rule is refused."""

    def __init__(self, rules: Mapping[str, Rule], verifier: TokenVerifier, revocations: Revocations) -> None:
        """`rules` by path of the rpc."""
        self._rules = rules
        self._verifier = verifier
        self._revocations = revocations

    def authenticate(self, path: str, metadata: Mapping[str, str | bytes]) -> Caller | None:
        """Who calls; None if the rpc answers everybody.

        Raises:
            Unauthenticated: there is no valid token.
            StorageUnavailable: whether it was revoked cannot be found out.
        """
        rule = self._rules.get(path)
        return None if rule is not None and rule.public else self._authenticate(metadata)

    def admit(self, path: str, caller: Caller | None, metadata: Mapping[str, str | bytes], request_id: str) -> Call:
        """The call, if its caller may make it.

        Raises:
            Forbidden: the token lacks the role, permission or tenant, or the tenant is disabled.
            Unimplemented: there is no rule for such an rpc, so it is not served.
            InvalidArgument: the tenant is not named and the token allows several.
        """
        rule = self._rules.get(path)
        if rule is None:
            raise errors.Unimplemented(path)
        if rule.public:
            return Call(request_id, None, None)
        if caller is None:
            raise _no_token()
        authorization.require_powers(rule, caller)
        if rule.installation_wide:
            return Call(request_id, caller, None)
        requested = metadata.get("x-tenant-id")
        tenant_id = authorization.resolve_tenant(caller, requested if isinstance(requested, str) else None)
        self._revocations.require_enabled(tenant_id)
        return Call(request_id, caller, tenant_id)

    def require_still_valid(self, admitted: Call) -> None:
        """Return if the caller of a long call would be let in again.

        Raises:
            Unauthenticated: its token has expired, its key is revoked or its account disabled.
            Forbidden: its tenant is disabled.
        """
        if admitted.caller is not None:
            self._verifier.require_unexpired(admitted.caller)
        with contextlib.suppress(errors.StorageUnavailable):
            # What a stream reads comes from the same database: without it nothing is told to anybody.
            if admitted.caller is not None:
                self._revocations.require_valid(admitted.caller)
            if admitted.tenant_id is not None:
                self._revocations.require_enabled(admitted.tenant_id)

    def _authenticate(self, metadata: Mapping[str, str | bytes]) -> Caller:
        header = metadata.get("authorization")
        if not isinstance(header, str) or header[: len(_SCHEME)].lower() != _SCHEME:
            raise _no_token()
        caller = self._verifier.verify(header[len(_SCHEME) :].strip())
        self._revocations.require_valid(caller)
        return caller


def _no_token() -> errors.Unauthenticated:
    return errors.Unauthenticated("authorization: send a token as `authorization: Bearer <token>`")
