"""The default limits are those of the contract."""

import dataclasses

from decisiongraph_service.domain.limits import EventLimits


def test_defaults_are_the_limits_of_the_contract() -> None:
    assert dataclasses.asdict(EventLimits()) == {
        "max_id_bytes": 200,
        "max_tags": 64,
        "max_tag_bytes": 100,
        "max_payload_bytes": 262_144,
        "max_payload_depth": 32,
        "max_payload_values": 10_000,
        "max_occurred_at_bytes": 64,
    }
