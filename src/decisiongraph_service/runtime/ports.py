"""Local TCP ports: whether one is free, who holds it, and one that is free.

What is said about a port holds for the moment of the call; only binding it keeps it.
"""

import contextlib
import errno
import socket
from collections.abc import Collection
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens on a port, as far as this account may see it."""

    pid: int | None
    name: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process (of another account, so its name is not visible)"
        return f"{self.name or 'a process'} (pid {self.pid})"


class PortError(Exception):
    """The port cannot be listened on; the message says why."""


def require_free(host: str, port: int) -> None:
    """Return if a server could listen on `host:port` now.

    Raises:
        PortError: it is taken, needs other rights, or the address is not one of this machine.
    """
    try:
        _bind(host, port)
    except PermissionError as error:
        raise PortError(f"port {port} needs administrator rights") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortError(f"port {port} is taken by {holder(port)}") from error
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def holder(port: int) -> Holder:
    """Who listens on `port`."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.pid and _port_of(connection.laddr) == port:
                return Holder(connection.pid, psutil.Process(connection.pid).name())
    return Holder(None, None)


def free_port(host: str = "127.0.0.1", *, besides: Collection[int] = ()) -> int:
    """A port of `host` that nobody listens on, and none of `besides`."""
    while (port := _bind(host, 0)) in besides:
        pass
    return port


def _port_of(address: tuple[str, int] | tuple[()]) -> int | None:
    return address[1] if address else None


def _bind(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as listener:
        # As servers do: connections of an earlier server that still linger do not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Two sockets may share a port by SO_REUSEADDR until one listens, so binding alone proves too little.
        listener.listen(1)
        return int(listener.getsockname()[1])
