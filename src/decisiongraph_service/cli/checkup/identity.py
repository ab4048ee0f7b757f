"""Who calls: whether the token is valid, for which tenants and roles, and whether the service takes it."""

import base64
import binascii
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from decisiongraph_service.cli.checkup import clock
from decisiongraph_service.cli.checkup.finding import Finding, fail, ok, warn

if TYPE_CHECKING:
    from decisiongraph_client import Client

_EXPIRES_SOON_SECONDS: Final = 600
_ROLES: Final = ("reader", "writer", "admin")


def claims_of(token: str) -> Mapping[str, Any] | None:
    """What a token says of itself, unverified; None: it is no JSON Web Token."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def validity(claims: Mapping[str, Any] | None, *, now: float) -> Finding:
    """Whether a token is valid now, by itself."""
    name = "token"
    if claims is None:
        return fail(
            name, "it is no JSON Web Token", "set DG_TOKEN to a whole token, without `Bearer`, quotes or breaks"
        )
    expires, begins = claims.get("exp"), claims.get("nbf", 0)
    if not isinstance(expires, int | float) or not isinstance(begins, int | float):
        return fail(name, "it does not say how long it is valid", "get one from an issuer of the service")
    until = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if expires <= now:
        return fail(name, f"expired at {until}", "get a new one; DG_API_KEY gets them by itself")
    if begins > now + clock.LEEWAY_SECONDS:
        return fail(name, f"not valid for another {begins - now:.0f} s", "set the clock of this machine by NTP")
    if expires - now < _EXPIRES_SOON_SECONDS:
        return warn(name, f"expires at {until}", "get a new one soon; DG_API_KEY gets them by itself")
    return ok(name, f"{claims.get('sub', 'somebody')}, valid until {until}")


def issued(claims: Mapping[str, Any], before: float, after: float) -> Finding:
    """How far the clock of the service is from ours, by a token that it has just issued."""
    begins = float(claims.get("iat", before))
    # Whole seconds, cut off.
    return clock.compare("service clock", begins if begins < before - 1 or begins > after else after, before, after)


def roles(claims: Mapping[str, Any]) -> Finding:
    """What the caller may do."""
    granted = claims.get("roles")
    if not isinstance(granted, list):
        return warn(
            "roles", "the token does not name them in a way that is known", "the service maps them by its issuers"
        )
    lacking = [role for role in _ROLES if role not in granted]
    if lacking == list(_ROLES):
        return fail("roles", "none", "give the account a role: `decisiongraph admin accounts create … --role reader`")
    said = ", ".join(str(role) for role in granted)
    return ok("roles", f"{said}{'' if not lacking else '; not ' + ', '.join(lacking)}")


def tenant(claims: Mapping[str, Any], wanted: str | None) -> Finding:
    """Where the caller acts."""
    allowed = claims.get("tenants")
    if not isinstance(allowed, list):
        return ok("tenant", wanted or "as the service maps it")
    named = ", ".join(map(str, allowed)) or "none"
    if wanted is not None and wanted not in allowed:
        return fail("tenant", f"{wanted} is not one of the token's: {named}", "mend DG_TENANT, or use another account")
    if wanted is None and len(allowed) != 1:
        return fail("tenant", f"the token allows {named}", "name one of them in DG_TENANT or with --tenant")
    return ok("tenant", wanted or named)


def accepted(client: "Client") -> Iterator[Finding]:
    """Whether the service takes who calls."""
    from decisiongraph_client import errors

    try:
        health = client.get_projection_health()
    except errors.Unauthenticated as error:
        yield fail("access", f"refused: {error.message}", "get a new token or key from this service")
    except errors.Forbidden as error:
        yield warn("access", f"taken, but may not read: {error.message}", "give the account the role reader")
    except errors.ServiceError as error:
        yield fail("access", f"{error.code.name}: {error.message}", "look at the log of the server")
    else:
        yield ok("access", "the service takes the caller")
        stopped = [one.projection for one in health.projections if one.state == "failed"]
        if stopped:
            yield fail("projections", f"stopped: {', '.join(stopped)}", "decisiongraph projections failures")
        else:
            behind = max((one.lag_events for one in health.projections), default=0)
            yield ok("projections", f"at most {behind} events behind a log of {health.head_log_seq}")


def of_token(token: str, wanted_tenant: str | None, *, all_roles: Sequence[str] | None = None) -> Iterator[Finding]:
    """What a token says of itself; ends at what makes the rest meaningless.

    `all_roles`: those that there are further tokens for; None: there is only this one.
    """
    claims = claims_of(token)
    valid = validity(claims, now=time.time())
    yield valid
    if claims is not None and valid.status != "fail":
        yield ok("roles", f"{', '.join(all_roles)}, by a token each") if all_roles else roles(claims)
        yield tenant(claims, wanted_tenant)
