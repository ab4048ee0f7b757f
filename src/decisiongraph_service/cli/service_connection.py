"""Which service a command talks to, and as whom: decided here for all commands.

The server is the named one (`--server`, DG_SERVER), or that of the running `decisiongraph run`. Who calls is told by
DG_TOKEN or DG_API_KEY; without them the tokens of the running one are used, for its own server only.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from decisiongraph_service.cli import configuration, failure, options

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from decisiongraph_client import Client, RetryPolicy
    from decisiongraph_client._methods import Method
    from decisiongraph_client._sync.session import Session

SERVER_VARIABLE: Final = options.SERVER_VARIABLE
TOKEN_VARIABLE: Final = "DG_TOKEN"  # noqa: S105 - the name of a variable
KEY_VARIABLE: Final = "DG_API_KEY"
_ADMIN_SECONDS: Final = 30.0
_READ_SECONDS: Final = 30.0
_LONGEST_JOB_SECONDS: Final = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Place:
    """A service, and the ways in that a command has."""

    server: str
    """As the client takes it."""
    name: str
    """`host:port`, for people."""
    api_key: str | None
    tokens: Mapping[str, str]
    """By role; the one under the empty name is for every role."""
    of_run: bool
    """Whether it is the one that `decisiongraph run` runs from this folder."""

    def token(self, role: str) -> str | None:
        """The token for calls that need `role`; None: there is none."""
        return self.tokens.get(role) or self.tokens.get("")

    @property
    def has_identity(self) -> bool:
        """Whether it is known who calls."""
        return bool(self.api_key or self.tokens)


class NoService(Exception):
    """No service is named and none runs from here, or it is not known who calls; the message says what to set."""


def find(server: str | None, *, anonymous: bool = False) -> Place:
    """As `look`; ends the command if there is no service."""
    try:
        return look(server, anonymous=anonymous)
    except NoService as error:
        failure.exit_with(str(error))


def look(server: str | None, *, anonymous: bool = False) -> Place:
    """The service.

    Args:
        server: The named one. None: that of the running `decisiongraph run`.
        anonymous: Whether the command can do something without saying who calls.

    Raises:
        NoService: there is none, or it is not known who calls.
    """
    path = configuration.settings().data_dir / "service.json"
    running = _running(path)
    token = os.environ.get(TOKEN_VARIABLE)
    api_key = None if token else os.environ.get(KEY_VARIABLE) or None
    tokens = {"": token} if token else {}
    own = running is not None and server in (None, running["grpc"])
    if running is not None and own and not tokens and not api_key:
        tokens = running["tokens"]
    if server is None and running is None:
        raise NoService(_nowhere(path))
    if not tokens and not api_key and not anonymous:
        raise NoService(_nobody(server) if running is not None else _nowhere(path))
    # What runs on this machine speaks plain text, whatever its address.
    address = f"http://{running['grpc']}" if running is not None and own else server or ""
    return Place(address, address.rpartition("://")[2], api_key, tokens, of_run=own)


@contextlib.contextmanager
def client(
    place: Place,
    role: str,
    tenant: str | None,
    *,
    timeout: float = _READ_SECONDS,
    retries: "RetryPolicy | None" = None,
) -> "Iterator[Client]":
    """A client for calls that need `role`; what the service refuses ends the command.

    Raises:
        ConfigurationError: the address cannot be understood.
    """
    from decisiongraph_client import Client, errors

    try:
        with Client(place.server, **identity(place, role), tenant=tenant, timeout=timeout, retries=retries) as made:
            yield made
    except errors.ServiceError as error:
        failure.exit_with(failure.of_service(error, place.name))


class AdminService:
    """The rpcs of AdminService, which the client has no methods for."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def call(self, rpc: str, request: "Message") -> Any:
        """The answer to a request."""
        return self._session.call(_method(rpc), request)

    def stream(self, rpc: str, request: "Message") -> Iterator[Any]:
        """The answers to a request, to the end. When the token ends before, the request is made again with a new one.

        That suits streams that tell how things stand: what was told may be told again.
        """
        from decisiongraph_client import errors

        renewed = False
        while True:
            try:
                for answer in self._session.stream(_method(rpc), request, silence=_LONGEST_JOB_SECONDS):
                    renewed = False
                    yield answer
            except errors.Unauthenticated:
                if renewed or not self._session.may_renew:
                    raise
                renewed = True
            else:
                return


@contextlib.contextmanager
def admin(server: str | None, tenant: str | None = None) -> Iterator[AdminService]:
    """The admin rpcs of the service; what it refuses ends the command.

    Raises:
        ConfigurationError: the address cannot be understood.
    """
    from decisiongraph_client import RetryPolicy, _settings, errors
    from decisiongraph_client._sync.session import Session

    place = find(server)
    session = Session(
        _settings.endpoint(place.server, None),
        **identity(place, "admin"),
        tenant=tenant,
        timeout=_ADMIN_SECONDS,
        retries=RetryPolicy(),
    )
    try:
        yield AdminService(session)
    except errors.ServiceError as error:
        failure.exit_with(failure.of_service(error, place.name))
    finally:
        session.close()


def issue_token(place: Place, timeout: float) -> str:
    """A token for the API key.

    Raises:
        ServiceError: there is none.
        ConfigurationError: the address cannot be understood, or there is no API key.
    """
    from decisiongraph.v1 import access_service_pb2
    from decisiongraph_client import RetryPolicy, _methods, _settings
    from decisiongraph_client._sync.session import Session

    session = Session(
        _settings.endpoint(place.server, None),
        **identity(place, ""),
        tenant=None,
        timeout=timeout,
        retries=RetryPolicy(attempts=1),
    )
    try:
        request = access_service_pb2.IssueTokenRequest(api_key=place.api_key)
        return session.call(_methods.ISSUE_TOKEN, request).token
    finally:
        session.close()


def is_on_this_machine(place: Place) -> bool:
    """Whether the address of the service is a loopback address."""
    from decisiongraph_client import _settings

    return _settings.is_loopback(place.name)


def message(request_type: "type[Message]", request: Mapping[str, object]) -> "Message":
    """A request as the command line gives it; ends the command if it is none."""
    from google.protobuf import json_format

    try:
        return json_format.ParseDict(dict(request), request_type())
    except json_format.ParseError as error:
        failure.exit_with(str(error))


def identity(place: Place, role: str) -> dict[str, Any]:
    """Who calls, as arguments of a client, for calls that need `role`."""
    if place.api_key:
        return {"api_key": place.api_key, "token": None}
    return {"api_key": None, "token": place.token(role) or _nobody_calls}


def _nobody_calls() -> str:
    from decisiongraph_client import errors

    raise errors.ConfigurationError(f"say who calls: set {KEY_VARIABLE} or {TOKEN_VARIABLE}")


def _method(rpc: str) -> "Method[Any]":
    from google.protobuf import message_factory

    from decisiongraph.v1 import admin_service_pb2
    from decisiongraph_client._methods import Method

    service = admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]
    answer = message_factory.GetMessageClass(service.methods_by_name[rpc].output_type)
    return Method(f"/{service.full_name}/{rpc}", answer.FromString, repeatable=rpc.startswith(("Get", "List", "Watch")))


def _running(path: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise NoService(f"{path} cannot be read ({error}); stop `decisiongraph run` and start it again") from error
    return told


def _nowhere(path: Path) -> str:
    return (
        f"no service: {path} does not exist, so none runs from this folder; start it with `make run`, or set "
        f"{SERVER_VARIABLE} (host:port of the gRPC server) and {KEY_VARIABLE} (an API key) or "
        f"{TOKEN_VARIABLE} (a token) of an account with the roles that the command needs"
    )


def _nobody(server: str | None) -> str:
    return (
        f"who calls {server}? It is not the service that runs from this folder: set {KEY_VARIABLE} (an API key) or "
        f"{TOKEN_VARIABLE} (a token) of an account with the roles that the command needs"
    )
