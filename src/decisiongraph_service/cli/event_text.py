"""What an event says, in a line for people: by its type and payload, whatever else the payload holds.

Pure. Payloads are held to the required fields of their type; every other part may be missing or of another shape.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from decisiongraph_service.cli.output import plain, shortened
from decisiongraph_service.domain import vocabulary

_LONGEST: Final = 240
_MOST_PARTS: Final = 4
_Payload = Mapping[str, Any]


def describe(event_type: str, payload: _Payload) -> str:
    """The line; empty for a payload that is left out."""
    teller = _TELLERS.get(event_type)
    if teller is None or not payload:
        return ""
    return shortened(plain(teller(payload)), _LONGEST)


def _started(payload: _Payload) -> str:
    return f"{_text(payload, 'workflow')}: {_text(payload, 'title')}, about {_entity(payload, 'primary_entity')}"


def _input(payload: _Payload) -> str:
    source = _part(payload, "source")
    where = f"{_text(source, 'object_type')} {_text(source, 'object_id')} in {_text(source, 'system')}"
    return f"{_text(payload, 'input_id')}: read {where}{_facts(payload)}"


def _entity_observed(payload: _Payload) -> str:
    return f"{_text(payload, 'role')} {_entity(payload, 'entity')}{_facts(payload)}"


def _policy(payload: _Payload) -> str:
    said = _DECISIONS.get(_text(payload, "decision"), _text(payload, "decision"))
    broken = _join(_text(one, "code") for one in _parts(payload, "violations"))
    return f"{_policy_ref(payload)} {said}{_after(': ', broken)}{_after(', ', _text(payload, 'explanation'))}"


def _exception(payload: _Payload) -> str:
    return f"{_text(payload, 'exception_id')}: exception from {_policy_ref(payload)}, {_text(payload, 'reason')}"


def _approval(payload: _Payload) -> str:
    approver, subject = _part(payload, "approver"), _part(payload, "subject")
    who = f"{_text(approver, 'actor_type')} {_text(approver, 'actor_id')}"
    what = f"{_text(subject, 'subject_type')} {_text(subject, 'subject_id')}"
    return f"{who} {_text(payload, 'decision')} {what}{_after(': ', _text(payload, 'reason'))}"


def _precedent(payload: _Payload) -> str:
    score = _after(", similarity ", _text(payload, "similarity_score"))
    return f"cites {_text(payload, 'cited_trace_id')}{score}: {_text(payload, 'reason')}"


def _proposed(payload: _Payload) -> str:
    changes = _join(_change(one) for one in _parts(payload, "changes"))
    where = (
        f"{_text(payload, 'action_type')} of {_entity(payload, 'target_entity')} in {_text(payload, 'target_system')}"
    )
    return f"{_text(payload, 'action_id')}: {where}{_after(': ', changes)}"


def _committed(payload: _Payload) -> str:
    reference = _after(", reference ", _text(payload, "external_reference"))
    return (
        f"{_text(payload, 'action_id')}: {_text(payload, 'status')}{reference}{_after(': ', _text(payload, 'error'))}"
    )


def _finished(payload: _Payload) -> str:
    return f"{_text(payload, 'outcome')}{_after(': ', _text(payload, 'summary'))}"


_TELLERS: Final[Mapping[str, Callable[[_Payload], str]]] = {
    vocabulary.TRACE_STARTED: _started,
    vocabulary.INPUT_OBSERVED: _input,
    vocabulary.ENTITY_OBSERVED: _entity_observed,
    vocabulary.POLICY_EVALUATED: _policy,
    vocabulary.EXCEPTION_REQUESTED: _exception,
    vocabulary.APPROVAL_RECORDED: _approval,
    vocabulary.PRECEDENT_CITED: _precedent,
    vocabulary.ACTION_PROPOSED: _proposed,
    vocabulary.ACTION_COMMITTED: _committed,
    vocabulary.TRACE_FINISHED: _finished,
}
_DECISIONS: Final = {"allow": "allows it", "deny": "denies it", "require_exception": "requires an exception"}


def _entity(payload: _Payload, name: str) -> str:
    entity = _part(payload, name)
    return f"{_text(entity, 'entity_type')} {_text(entity, 'entity_id')}"


def _policy_ref(payload: _Payload) -> str:
    policy = _part(payload, "policy")
    return f"{_text(policy, 'policy_id')} {_text(policy, 'policy_version')}"


def _facts(payload: _Payload) -> str:
    facts = (f"{_text(fact, 'key')} = {_text(_part(fact, 'value'), 'value')}" for fact in _parts(payload, "facts"))
    return _after(": ", _join(facts))


def _change(change: _Payload) -> str:
    old, new = (_text(_part(change, name), "value") for name in ("old_value", "new_value"))
    return f"{_text(change, 'path')} {_after('', old)}{' → ' if old else '= '}{new}"


def _join(texts: Any) -> str:
    given = [text for text in texts if text]
    more = f" and {len(given) - _MOST_PARTS} more" if len(given) > _MOST_PARTS else ""
    return ", ".join(given[:_MOST_PARTS]) + more


def _after(separator: str, text: str) -> str:
    return f"{separator}{text}" if text else ""


def _text(part: _Payload, name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""


def _part(part: _Payload, name: str) -> _Payload:
    value = part.get(name)
    return value if isinstance(value, Mapping) else {}


def _parts(part: _Payload, name: str) -> Sequence[_Payload]:
    value = part.get(name)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
