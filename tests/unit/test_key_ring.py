"""Keys of tokens overlap when they are changed: all verify, and the newest that others can know signs."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decisiongraph_service.access import key_folder, key_retirement, keys, tokens
from decisiongraph_service.access.key_folder import KeyFile
from decisiongraph_service.access.key_ring import KeyRing
from decisiongraph_service.access.keys import SigningKey
from decisiongraph_service.access.tokens import TokenVerifier
from decisiongraph_service.domain import errors

NOW = 1_800_000_000
GRACE = 300


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def added(folder: Path, *, age: float) -> KeyFile:
    """A key that was added so many seconds before NOW."""
    return key_folder.add(folder, now=NOW - age)


def ring_of(folder: Path, clock: Clock, first: SigningKey | None = None) -> KeyRing:
    return KeyRing(folder, first=first, grace_seconds=GRACE, clock=clock)


def token(key: SigningKey, number: int = 0) -> str:
    return tokens.issue(
        key,
        issuer="us",
        audience="here",
        account_id=f"account-{number}",
        tenant_ids=[],
        roles=[],
        permissions=[],
        now=NOW,
        lifetime_seconds=3600,
    )


def signing(file: KeyFile) -> SigningKey:
    assert isinstance(file.key, SigningKey)
    return file.key


def pem_name(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ.pem")


def test_a_key_is_made_for_the_owner_alone_and_named_by_its_time(folder: Path) -> None:
    made = key_folder.add(folder, now=1_772_366_400.7)
    assert made.path == folder / "20260301T120000Z.pem"
    assert made.added_at == 1_772_366_400
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["20260301T120000Z.pem"], "nothing else is left there"


def test_two_keys_of_the_same_second_are_refused(folder: Path) -> None:
    first = added(folder, age=0)
    with pytest.raises(ValueError, match="this very second"):
        added(folder, age=0)
    assert key_folder.read(folder, {}).files[0].key_id == first.key_id


def test_the_newest_key_that_is_old_enough_signs_and_all_verify(folder: Path, clock: Clock) -> None:
    oldest, old, young = (added(folder, age=age) for age in (9000, GRACE, GRACE - 1))
    ring = ring_of(folder, clock)
    assert ring.signing_key.key_id == old.key_id
    assert set(ring) == {oldest.key_id, old.key_id, young.key_id}
    assert [key.key_id for key in ring.published] == [old.key_id, young.key_id, oldest.key_id]
    clock.now += 1
    assert ring.signing_key.key_id == young.key_id


def test_a_single_key_signs_at_once_and_of_several_young_ones_the_oldest(folder: Path, clock: Clock) -> None:
    only = added(folder, age=1)
    assert ring_of(folder, clock).signing_key.key_id == only.key_id
    added(folder, age=0)
    assert ring_of(folder, clock).signing_key.key_id == only.key_id


def test_a_key_of_the_future_waits_for_its_time(folder: Path, clock: Clock) -> None:
    old, future = added(folder, age=9000), added(folder, age=-3600)
    ring = ring_of(folder, clock)
    assert ring.signing_key.key_id == old.key_id
    assert future.key_id in ring
    assert ring.signs_from(future.key_id) == NOW + 3600 + GRACE


def test_the_key_of_the_key_file_is_older_than_all_of_the_folder(folder: Path, clock: Clock) -> None:
    first = SigningKey(Ed25519PrivateKey.generate())
    folder.mkdir()
    assert ring_of(folder, clock, first).signing_key == first
    young = added(folder, age=0)
    ring = ring_of(folder, clock, first)
    assert ring.signing_key == first
    clock.now += GRACE
    assert ring.signing_key.key_id == young.key_id
    assert first.key_id in ring


def test_a_ring_without_a_folder_is_the_key_of_the_key_file(clock: Clock) -> None:
    first = SigningKey(Ed25519PrivateKey.generate())
    ring = KeyRing(first=first, grace_seconds=GRACE, clock=clock)
    ring.refresh()
    assert ring.signing_key == first
    assert dict(ring) == {first.key_id: first.public}


def test_a_running_server_takes_new_keys_and_lets_removed_ones_go(folder: Path, clock: Clock) -> None:
    old = added(folder, age=9000)
    ring = ring_of(folder, clock)
    verifier = TokenVerifier(ring, issuer="us", audience="here", clock=clock)
    new = added(folder, age=0)
    with pytest.raises(errors.Unauthenticated, match="not ours"):
        verifier.verify(token(signing(new)))
    ring.refresh()
    caller = verifier.verify(token(signing(old)))
    verifier.verify(token(signing(new)))
    assert verifier.verify(token(signing(old))) is caller, "an unchanged key keeps what was verified with it"
    old.path.unlink()
    ring.refresh()
    with pytest.raises(errors.Unauthenticated, match="not ours"):
        verifier.verify(token(signing(old)))
    assert verifier.verify(token(signing(new))).account_id == "account-0"


def test_a_key_that_comes_late_waits_from_when_it_came(folder: Path, clock: Clock, tmp_path: Path) -> None:
    old = added(folder, age=9000)
    ring = ring_of(folder, clock)
    elsewhere = added(tmp_path / "elsewhere", age=5000)
    elsewhere.path.rename(folder / elsewhere.path.name)
    ring.refresh()
    assert elsewhere.key_id in ring
    assert ring.signing_key.key_id == old.key_id
    clock.now += GRACE
    assert ring.signing_key.key_id == elsewhere.key_id


def test_a_retired_key_verifies_only(folder: Path, clock: Clock) -> None:
    old, new = added(folder, age=9000), added(folder, age=8000)
    ring = ring_of(folder, clock)
    verifier = TokenVerifier(ring, issuer="us", audience="here", clock=clock)
    before = verifier.verify(token(signing(new)))
    key_retirement.stop_signing(ring, new.key_id, now=NOW)
    assert b"PUBLIC KEY" in new.path.read_bytes()
    assert stat.S_IMODE(new.path.stat().st_mode) == 0o600
    ring.refresh()
    assert ring.signing_key.key_id == old.key_id
    assert ring.signs_from(new.key_id) is None
    assert verifier.verify(token(signing(new))) is before
    assert verifier.verify(token(signing(new), 1)).account_id == "account-1"
    assert ring_of(folder, clock).signing_key.key_id == old.key_id, "a server that starts now sees the same"


def test_when_every_private_key_is_gone_nothing_signs_and_the_rest_verifies(
    folder: Path, clock: Clock, logged: list[Any]
) -> None:
    only = added(folder, age=9000)
    ring = ring_of(folder, clock)
    keys.replace_by_public(only.path, signing(only))
    ring.refresh()
    with pytest.raises(errors.StorageUnavailable, match="token-keys add"):
        _ = ring.signing_key
    assert list(ring) == [only.key_id]
    assert [key.key_id for key in ring.published] == [only.key_id]
    assert "no_token_key_signs" in [entry["event"] for entry in logged]


def pem_of_another_kind() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


BAD_FILES = {
    "no timestamp": ("key.pem", b""),
    "no such day": ("20260231T120000Z.pem", b""),
    "short digits": ("2026031T12000Z.pem", b""),
    "empty": (pem_name(NOW), b""),
    "garbage": (pem_name(NOW), b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    "garbage in public": (pem_name(NOW), b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"),
    "another kind of key": (pem_name(NOW), pem_of_another_kind()),
    "too long": (pem_name(NOW), b"x" * 20_000),
    "not text": (pem_name(NOW), b"\xff\x00"),
}


@pytest.mark.parametrize(("name", "content"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_a_bad_file_keeps_a_server_from_starting_and_does_not_stop_a_running_one(
    folder: Path, clock: Clock, logged: list[Any], name: str, content: bytes
) -> None:
    good = added(folder, age=9000)
    ring = ring_of(folder, clock)
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        ring_of(folder, clock)
    ring.refresh()
    ring.refresh()
    assert [entry["event"] for entry in logged] == ["token_key_ignored"], "it is logged once"
    assert name in logged[0]["cause"]
    assert list(ring) == [good.key_id]


def test_a_pipe_is_refused_and_not_waited_for(folder: Path, clock: Clock) -> None:
    added(folder, age=9000)
    os.mkfifo(folder / pem_name(NOW))
    with pytest.raises(ValueError, match=r"no file of at most"):
        ring_of(folder, clock)


def test_a_file_that_is_being_written_keeps_its_key(folder: Path, clock: Clock) -> None:
    good = added(folder, age=9000)
    ring = ring_of(folder, clock)
    pem = good.path.read_bytes()
    good.path.write_bytes(pem[:20])
    ring.refresh()
    assert ring.signing_key.key_id == good.key_id
    good.path.write_bytes(pem)
    ring.refresh()
    assert ring.signing_key.key_id == good.key_id


def test_the_same_key_twice_is_a_mistake(folder: Path, clock: Clock) -> None:
    good = added(folder, age=9000)
    (folder / pem_name(NOW)).write_bytes(good.path.read_bytes())
    with pytest.raises(ValueError, match="same key"):
        ring_of(folder, clock)


def test_other_files_are_left_alone(folder: Path, clock: Clock) -> None:
    good = added(folder, age=9000)
    (folder / "README").write_text("keys")
    (folder / ".new-123").write_text("half a key")
    assert list(ring_of(folder, clock)) == [good.key_id]


def test_files_may_be_links_as_in_a_mounted_secret(folder: Path, clock: Clock, tmp_path: Path) -> None:
    real = added(tmp_path / "data", age=9000)
    folder.mkdir()
    (folder / real.path.name).symlink_to(real.path)
    ring = ring_of(folder, clock)
    assert list(ring) == [real.key_id]
    real.path.unlink()
    ring.refresh()
    assert not list(ring)


def test_a_folder_that_is_missing_or_empty_is_said_at_the_start(folder: Path, clock: Clock) -> None:
    with pytest.raises(ValueError, match=r"there is no folder .* token-keys add"):
        ring_of(folder, clock)
    folder.mkdir()
    with pytest.raises(ValueError, match="no private key; make one with"):
        ring_of(folder, clock)


def test_a_folder_that_goes_away_changes_nothing(folder: Path, clock: Clock, logged: list[Any]) -> None:
    good = added(folder, age=9000)
    ring = ring_of(folder, clock)
    folder.rename(folder.with_name("elsewhere"))
    ring.refresh()
    assert ring.signing_key.key_id == good.key_id
    assert logged[0]["event"] == "token_keys_unreadable"


def test_unchanged_files_are_not_read_again(folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    added(folder, age=9000)
    ring = ring_of(folder, clock)
    monkeypatch.setattr(keys, "load_either", lambda path: pytest.fail(f"{path} was read"))
    ring.refresh()


def test_a_key_is_retired_only_when_another_can_sign(folder: Path, clock: Clock) -> None:
    old = added(folder, age=9000)
    with pytest.raises(ValueError, match="add another key first"):
        key_retirement.stop_signing(ring_of(folder, clock), old.key_id, now=NOW)
    with pytest.raises(ValueError, match="add another key first"):
        key_retirement.remove(ring_of(folder, clock), old.key_id)
    young = added(folder, age=100)
    with pytest.raises(ValueError, match="in 200 s"):
        key_retirement.stop_signing(ring_of(folder, clock), old.key_id, now=NOW)
    key_retirement.stop_signing(ring_of(folder, clock), old.key_id, now=NOW + 200)
    ring = ring_of(folder, clock)
    with pytest.raises(ValueError, match="signs no more already"):
        key_retirement.stop_signing(ring, old.key_id, now=NOW)
    key_retirement.remove(ring, old.key_id)
    assert list(ring_of(folder, clock)) == [young.key_id]


def test_a_key_that_leaked_is_removed_although_the_other_is_young(folder: Path, clock: Clock) -> None:
    leaked, young = added(folder, age=9000), added(folder, age=0)
    ring = ring_of(folder, clock)
    key_retirement.remove(ring, leaked.key_id)
    ring.refresh()
    assert ring.signing_key.key_id == young.key_id
    assert list(ring) == [young.key_id]


def test_what_is_not_in_the_folder_is_not_retired(folder: Path, clock: Clock) -> None:
    first = SigningKey(Ed25519PrivateKey.generate())
    added(folder, age=9000)
    ring = ring_of(folder, clock, first)
    with pytest.raises(ValueError, match="DG_TOKEN_KEY_FILE"):
        key_retirement.remove(ring, first.key_id)
    with pytest.raises(ValueError, match="there is no key nope"):
        key_retirement.remove(ring, "nope")


def test_a_retired_key_is_removable_when_no_token_of_it_can_be_valid(folder: Path) -> None:
    old = added(folder, age=9000)
    keys.replace_by_public(old.path, signing(old))
    os.utime(old.path, (NOW, NOW))
    file = key_folder.read(folder, {}).files[0]
    assert key_retirement.removable_at(file, longest_token_seconds=900) == NOW + 900 + 60
