"""Other issuers whose tokens are taken, and what their claims mean here.

They are listed in a JSON file:

    [
      {
        "name": "corp",
        "issuer": "https://login.example.com/",
        "audience": "decisiongraph",
        "jwks_url": "https://login.example.com/.well-known/jwks.json",
        "algorithms": ["RS256"],
        "claims": {"tenants": "org", "roles": "groups"},
        "role_map": {"decision-readers": ["reader"], "decision-bots": ["reader", "writer"]},
        "allowed_tenants": ["acme"]
      }
    ]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from decisiongraph_service.access import key_sources, tenancy, tokens
from decisiongraph_service.access.key_sets import TrustedKey
from decisiongraph_service.access.key_sources import KeySetFile, KeySetUrl, KeySource
from decisiongraph_service.access.tokens import Caller
from decisiongraph_service.domain import errors
from decisiongraph_service.domain.vocabulary import TenantId
from decisiongraph_service.storage.tenants import SYSTEM

MAX_SUBJECT_CHARACTERS: Final = 128
"""The longest name that an issuer may give a caller."""

_MAX_ISSUERS: Final = 32
_IN_TENANTS: Final = tuple(name for name in tokens.PERMISSIONS if name != "access_manage")


def _tenant_id(text: str) -> str:
    if not _is_tenant_id(text):
        raise ValueError("must be a tenant id: 1 to 63 characters of a-z, 0-9 and '-'")
    return text


def _url(text: str) -> str:
    key_sources.check_url(text)
    return text


def _role(text: str) -> str:
    if text not in tokens.ROLES:
        raise ValueError(f"there is no such role; use {', '.join(tokens.ROLES)}")
    return text


def _permission(text: str) -> str:
    if text not in tokens.PERMISSIONS:
        raise ValueError(f"there is no such permission; use {', '.join(tokens.PERMISSIONS)}")
    return text


_Text = Annotated[str, Field(min_length=1, max_length=500)]
_Algorithm = Literal["EdDSA", "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]


class ClaimNames(BaseModel):
    """Which claims of a token say what. `account` is a text, the others a text or a list of texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: _Text = "sub"
    tenants: _Text = "tenants"
    roles: _Text = "roles"
    permissions: _Text = "permissions"


class IssuerSettings(BaseModel):
    """One issuer of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    """Its name here: accounts of it are called `<name>:<account>`."""
    issuer: _Text
    """`iss` of its tokens, exactly."""
    audience: _Text
    """What `aud` of its tokens must be or hold."""
    jwks_file: Path | None = None
    """A relative path is from the folder of the file."""
    jwks_url: Annotated[str, AfterValidator(_url)] | None = None
    algorithms: Annotated[tuple[_Algorithm, ...], Field(min_length=1)]
    """The `alg` of its tokens. What signs with a shared secret (HS256 …) is not taken, nor `none`."""
    claims: ClaimNames = ClaimNames()
    role_map: dict[str, tuple[Annotated[str, AfterValidator(_role)], ...]] | None = None
    """Its names of roles and what they are here; others are not taken. None: it calls them as they are called here."""
    allowed_tenants: tuple[Annotated[str, AfterValidator(_tenant_id)], ...] | None = None
    """Its callers act in no others. None: in all but the installation's own."""
    allowed_permissions: tuple[Annotated[str, AfterValidator(_permission)], ...] = _IN_TENANTS
    """Its callers hold no others. By default all but that which reaches beyond single tenants, `access_manage`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("set one of jwks_file and jwks_url")
        return self


class ExternalIssuer:
    """An issuer beside this service. What its tokens say and nobody here knows grants nothing."""

    required_claims = ("exp", "iss", "aud")

    def __init__(self, settings: IssuerSettings, source: KeySource) -> None:
        self.issuer = settings.issuer
        self.audience = settings.audience
        self._settings = settings
        self._source = source

    @property
    def settings(self) -> IssuerSettings:
        """What its file says of it; the path of its `jwks_file` is absolute."""
        return self._settings

    async def start(self) -> None:
        """Follow its keys."""
        await self._source.start()

    async def stop(self) -> None:
        """Follow them no more."""
        await self._source.stop()

    def find_key(self, key_id: str) -> TrustedKey | None:
        """The key of that id, if the issuer is known to have it."""
        return self._source.find(key_id)

    def unknown_key(self) -> str:
        """What to tell somebody whose token names a key that is not known."""
        if self._source.may_learn:
            return (
                f"the token is signed with a key that is not known here yet; its issuer {self._settings.name} is being "
                f"asked; try again in {key_sources.FETCH_PAUSE_SECONDS:g} seconds"
            )
        return f"the token is signed with a key that its issuer {self._settings.name} does not have; get a new one"

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """The caller that the claims of a verified token speak for.

        Raises:
            ValueError: a claim is not of its kind, or the account has no usable name.
        """
        names, allowed = self._settings.claims, self._settings.allowed_permissions
        return Caller(
            account_id=self._account_id(claims),
            tenant_ids=tuple(TenantId(one) for one in _texts(claims, names.tenants) if self._may_act_in(one)),
            roles=frozenset(role for one in _texts(claims, names.roles) for role in self._roles(one)),
            permissions=frozenset(one for one in _texts(claims, names.permissions) if one in allowed),
            expires_at=int(claims["exp"]),
        )

    def _account_id(self, claims: Mapping[str, Any]) -> str:
        """Never the id of an account of this service: that has no colon."""
        name = claims.get(self._settings.claims.account)
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_SUBJECT_CHARACTERS or not name.isprintable():
            raise ValueError(
                f"{self._settings.claims.account} must be 1 to {MAX_SUBJECT_CHARACTERS} printable characters"
            )
        return f"{self._settings.name}:{name}"

    def _may_act_in(self, tenant: str) -> bool:
        allowed = self._settings.allowed_tenants
        return tenant in allowed if allowed is not None else tenant != SYSTEM and _is_tenant_id(tenant)

    def _roles(self, name: str) -> Sequence[str]:
        role_map = self._settings.role_map
        if role_map is not None:
            return role_map.get(name, ())
        return (name,) if name in tokens.ROLES else ()


def load(path: Path, *, own_issuer: str) -> list[ExternalIssuer]:
    """Read the issuers from their file. `own_issuer`: the `iss` of this service, which no other may have.

    Raises:
        ValueError: the file is missing or not as it should be; the message names the field.
    """
    try:
        listed = TypeAdapter(list[IssuerSettings]).validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"DG_EXTERNAL_ISSUERS: {path} cannot be read: {error}") from error
    except ValidationError as error:
        raise ValueError(f"DG_EXTERNAL_ISSUERS: {path}: {_faults(error)}") from error
    try:
        _require_distinct(listed, own_issuer)
        return [ExternalIssuer(one, _source(one)) for one in (_resolved(one, path.parent) for one in listed)]
    except ValueError as error:
        raise ValueError(f"DG_EXTERNAL_ISSUERS: {path}: {error}") from error


def _require_distinct(listed: Sequence[IssuerSettings], own_issuer: str) -> None:
    if len(listed) > _MAX_ISSUERS:
        raise ValueError(f"there are more than {_MAX_ISSUERS} issuers")
    issuers = {own_issuer}
    names = set()
    for position, one in enumerate(listed):
        if one.issuer in issuers:
            raise ValueError(f"[{position}].issuer: another issuer, or this service, is {one.issuer!r} already")
        if one.name in names:
            raise ValueError(f"[{position}].name: another issuer is called {one.name!r} already")
        issuers.add(one.issuer)
        names.add(one.name)


def _resolved(settings: IssuerSettings, folder: Path) -> IssuerSettings:
    if settings.jwks_file is None:
        return settings
    return settings.model_copy(update={"jwks_file": (folder / settings.jwks_file).absolute()})


def _source(settings: IssuerSettings) -> KeySource:
    if settings.jwks_file is None:
        return KeySetUrl(settings.jwks_url or "", settings.algorithms)
    try:
        return KeySetFile(settings.jwks_file, settings.algorithms)
    except ValueError as error:
        raise ValueError(f"jwks_file of {settings.name}: {settings.jwks_file}: {error}") from error


def _faults(error: ValidationError) -> str:
    """What is wrong, each with the path of its field, e.g. `[0].claims.roles`. Values are not repeated."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
        faults.append(f"{where.lstrip('.')}: {fault['msg']}" if where else fault["msg"])
    return "; ".join(faults)


def _is_tenant_id(text: str) -> bool:
    try:
        return tenancy.parse_tenant_id(text, field="tenant") == text
    except errors.InvalidArgument:
        return False


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name, [])
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a text or a list of texts")
    return value
