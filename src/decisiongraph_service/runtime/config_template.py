"""Filling in a committed configuration: only what is there is replaced, and what is missing is named."""

from typing import Any


class EnvoyConfigError(Exception):
    """The configuration does not have the shape that is filled in; the message names the place."""


def at(value: Any, *path: str | int) -> Any:
    """The part of `value` at `path`.

    Raises:
        EnvoyConfigError: there is none; says how far the path goes.
    """
    for depth, step in enumerate(path):
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            raise EnvoyConfigError(f"{'.'.join(map(str, path[: depth + 1]))} is missing") from error
    return value


def named(items: Any, name: str) -> Any:
    """The item of a list that has this name.

    Raises:
        EnvoyConfigError: there is none.
    """
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and item.get("name") == name:
            return item
    raise EnvoyConfigError(f"nothing is named {name}")


def put(mapping: Any, key: str, value: object) -> None:
    """Replace a value.

    Raises:
        EnvoyConfigError: there is none; a setting that moved must not be added where nobody reads it.
    """
    if not isinstance(mapping, dict) or key not in mapping:
        raise EnvoyConfigError(f"{key} is missing")
    mapping[key] = value


def listener(config: Any, name: str) -> Any:
    """The listener of that name.

    Raises:
        EnvoyConfigError: there is none.
    """
    return named(at(config, "static_resources", "listeners"), name)


def cluster(config: Any, name: str) -> Any:
    """The cluster of that name.

    Raises:
        EnvoyConfigError: there is none.
    """
    return named(at(config, "static_resources", "clusters"), name)


def manager(of_listener: Any) -> Any:
    """The settings of a listener's connection manager, which holds routes and HTTP filters.

    Raises:
        EnvoyConfigError: there is none.
    """
    filters = at(of_listener, "filter_chains", 0, "filters")
    return at(named(filters, "envoy.filters.network.http_connection_manager"), "typed_config")


def http_filter(of_listener: Any, name: str) -> Any:
    """The settings of one of a listener's HTTP filters.

    Raises:
        EnvoyConfigError: there is none.
    """
    return at(named(at(manager(of_listener), "http_filters"), name), "typed_config")
