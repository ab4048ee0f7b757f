"""Payloads of events from plain Python values: the typed messages of the contract, built in one line.

Where a function takes an entity, a policy or an actor it takes the message or a pair of texts; facts are a mapping from
names to values, whose types (`decimal`, `date`, ...) are told by the Python types.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from decisiongraph.v1.event_pb2 import Actor
from decisiongraph.v1.payload_pb2 import Change, EntityRef, Evidence, Fact, PolicyRef, PolicyViolation, TypedValue

Value: TypeAlias = str | int | bool | Decimal | date | datetime | list[Any] | dict[str, Any] | TypedValue
"""What a fact or a change can hold. Floating-point numbers are not taken: use Decimal, or text."""
EntityLike: TypeAlias = EntityRef | tuple[str, str]
PolicyLike: TypeAlias = PolicyRef | tuple[str, str]
ActorLike: TypeAlias = Actor | tuple[str, str]
FactsLike: TypeAlias = Mapping[str, Value] | Sequence[Fact]


def entity(entity_type: str, entity_id: str, *, system: str | None = None) -> EntityRef:
    """A business object, e.g. `entity("order", "A-1")`."""
    return EntityRef(entity_type=entity_type, entity_id=entity_id, system=system)


def policy(policy_id: str, policy_version: str) -> PolicyRef:
    """A policy in a version."""
    return PolicyRef(policy_id=policy_id, policy_version=policy_version)


def actor(actor_type: str, actor_id: str) -> Actor:
    """Who acts: an `agent`, `person`, `role` or `system`."""
    return Actor(actor_type=actor_type, actor_id=actor_id)


def typed(value: Value) -> TypedValue:
    """A value with its type; its text keeps every digit.

    Raises:
        TypeError: a value of another type, e.g. a float, whose digits depend on the machine.
    """
    match value:
        case TypedValue():
            return value
        case bool():
            return TypedValue(type="bool", value="true" if value else "false")
        case int():
            return TypedValue(type="int", value=str(value))
        case str():
            return TypedValue(type="string", value=value)
        case Decimal():
            return TypedValue(type="decimal", value=format(value, "f"))
        case datetime():
            return TypedValue(type="datetime", value=timestamp(value))
        case date():
            return TypedValue(type="date", value=value.isoformat())
        case list() | dict():
            return TypedValue(type="json", value=json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    raise TypeError(f"{type(value).__name__} is no value of a fact; use text, int, bool, Decimal, date, list or dict")


def fact(key: str, value: Value, *, as_of: datetime | str | None = None) -> Fact:
    """Something that was known, e.g. `fact("amount", Decimal("240.00"))`."""
    since = timestamp(as_of) if isinstance(as_of, datetime) else as_of
    return Fact(key=key, value=typed(value), as_of=since)


def evidence(source: str, locator: str, *, excerpt_redacted: str | None = None) -> Evidence:
    """A pointer to something that supports a statement."""
    return Evidence(source=source, locator=locator, excerpt_redacted=excerpt_redacted)


def violation(code: str, message: str | None = None) -> PolicyViolation:
    """A rule of a policy that was not met."""
    return PolicyViolation(code=code, message=message)


def change(path: str, new_value: Value, *, old_value: Value | None = None) -> Change:
    """A change that an action makes."""
    old = None if old_value is None else typed(old_value)
    return Change(path=path, new_value=typed(new_value), old_value=old)


def timestamp(moment: datetime) -> str:
    """A moment as the contract writes it. One without a time zone is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    text = moment.isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def entity_of(value: EntityLike) -> EntityRef:
    """The entity that is meant by a message or by (type, id)."""
    return value if isinstance(value, EntityRef) else entity(*value)


def policy_of(value: PolicyLike) -> PolicyRef:
    """The policy that is meant by a message or by (id, version)."""
    return value if isinstance(value, PolicyRef) else policy(*value)


def actor_of(value: ActorLike) -> Actor:
    """The actor that is meant by a message or by (type, id)."""
    return value if isinstance(value, Actor) else actor(*value)


def facts_of(value: FactsLike) -> list[Fact]:
    """The facts that are meant by a mapping or by messages."""
    if isinstance(value, Mapping):
        return [fact(key, one) for key, one in value.items()]
    return list(value)
