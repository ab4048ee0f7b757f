"""Whatever is in the environment or the settings file: settings that can be used, or a line that says what to mend.

It names the setting or the file, and nothing secret.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.effort import fuzzed
from tests.fuzz.values import TEXTS, as_utf8, documents, near

from decisiongraph_service.access.rate_limits import RateLimits, parsed
from decisiongraph_service.cli import configuration
from decisiongraph_service.domain.limits import RequestLimits
from decisiongraph_service.runtime import edge_spans, settings_sources
from decisiongraph_service.runtime.settings import Settings, variable

_SECRET: Final = "hush-hush"
_NAMES: Final = [name for name in Settings.model_fields if name != "config_file"]
_TABLES: Final = ("limit_overrides", "tenant_classes")
_ADDRESSES: Final = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["postgresql", "async+redis", "async+redis+sentinel", "async+nothing", "http", "https", ""]),
    st.sampled_from([f"dg:{_SECRET}@", f":{_SECRET}@", f"dg:{_SECRET}/x@", f"dg:{_SECRET}#@", f"dg:{_SECRET}?@"]),
    st.sampled_from(["", "db", "db:x", "db:0", "db:99999", "[", "[::1]:1", "a,b:2", "ü", "%"]),
    st.sampled_from(["", "/", "/d", "/d?sslmode=x", f"/?password={_SECRET}", "/\n", "//"]),
)
_LIMITS: Final = near("100/second", ("per", "/", ";5/minute", "0", "9" * 5_000, "-", "off", "month", "\n"))
_TABLE: Final = {"acme": {"read": "5/second", "events": "off"}}
_TEXTS: Final = st.one_of(
    TEXTS,
    _ADDRESSES,
    _LIMITS,
    documents(_TABLE).map(lambda text: text.decode("utf-8", "replace")),
    st.sampled_from(["0", "1", "true", "off", "nan", "inf", "-inf", "1e400", "9" * 5_000, "production", "json", "/"]),
    st.integers(-2, 100_000).map(str),
    st.floats().map(str),
)
_IN_THE_ENVIRONMENT: Final = _TEXTS.map(lambda text: os.fsdecode(as_utf8(text.replace("\0", "")))) | st.binary(
    max_size=8
).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
_LITERALS: Final = st.one_of(
    _TEXTS.map(json.dumps),
    st.sampled_from(
        ["nan", "-inf", "1e400", "0x_1", "1979-05-27", "07:32:00", "[]", "{}", "[[1]]", '"""a\nb"""', "''"]
    ),
    st.sampled_from(["9" * 5_000, "[" * 10_000, "{a=" * 3_000, "1_000", "0b1", "true", '{acme = {read = "off"}}']),
    st.integers().map(str),
)


@pytest.fixture(scope="module", autouse=True)
def _no_settings() -> Iterator[None]:
    """An environment without settings, as it was before when the tests end."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("DG_")}
    for name in kept:
        del os.environ[name]
    yield
    os.environ.update(kept)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def _read() -> Settings | str:
    """The settings, or what a command says before it ends."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return configuration.settings()
    except SystemExit as ended:
        assert ended.code == 1
        return said.getvalue()


def _assert_settled(read: Settings | str, names: list[str]) -> None:
    """The settings can be used and shown, or it is said in a line which of `names` is wrong."""
    if isinstance(read, str):
        assert read.startswith("decisiongraph: ")
        assert read.index("\n") == len(read) - 1
        assert any(name in read for name in names), read
        assert _SECRET not in read, read
        return
    shown = settings_sources.list_settings(read)
    assert _SECRET not in str([one.value for one in shown if one.name not in _TABLES])
    handed_on = read.as_environment()
    for text in handed_on.values():
        assert b"\0" not in os.fsencode(text)
    with _environment(handed_on):
        again = _read()
    assert isinstance(again, Settings), again
    assert _comparable(again) == _comparable(read)


def _comparable(settings: Settings) -> dict[str, Any]:
    # A text that is empty is a setting that is not set.
    return {
        name: value
        for name, value in settings.model_dump(exclude={"config_file", "database_url_file"}).items()
        if value
    }


@pytest.mark.parametrize("name", _NAMES)
@given(text=_IN_THE_ENVIRONMENT)
@fuzzed(12)
def test_any_text_in_the_environment(name: str, text: str) -> None:
    with _environment({variable(name): text}):
        _assert_settled(_read(), [variable(name), name])


@given(st.dictionaries(st.sampled_from(_NAMES), _LITERALS, min_size=1, max_size=3))
@fuzzed(250)
def test_any_literal_in_the_settings_file(tmp_path_factory: pytest.TempPathFactory, literals: dict[str, str]) -> None:
    content = "".join(f"{name} = {literal}\n" for name, literal in literals.items())
    with _settings_file(tmp_path_factory, content.encode("utf-8", "backslashreplace")) as path:
        _assert_settled(_read(), [str(path)])


@given(
    near(
        'grpc_port = 5\n[limit_overrides.acme]\nread = "off"\n[tenant_classes]\nacme = "gold"\n',
        ("=", "[", "]]", '"', '"""', "\n", "#", ".", "\0", "\r", "grpc_port", "DG_", "\\u0000", "\ud800", "[[a]]\n"),
    ).map(as_utf8)
    | st.binary(max_size=80)
)
@fuzzed(120)
def test_any_settings_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with _settings_file(tmp_path_factory, content) as path:
        _assert_settled(_read(), [str(path)])


@contextlib.contextmanager
def _settings_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> Iterator[Path]:
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with _environment({"DG_CONFIG_FILE": str(path)}):
        yield path


@given(_IN_THE_ENVIRONMENT | _ADDRESSES)
@fuzzed(60)
def test_any_name_of_a_settings_file(name: str) -> None:
    with _environment({"DG_CONFIG_FILE": name}):
        _assert_settled(_read(), [": the settings file cannot be read: "])


@given(st.binary(max_size=40) | _ADDRESSES.map(str.encode))
@fuzzed(60)
def test_any_file_with_the_address_of_the_database(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "url"
    path.write_bytes(content)
    with _environment({"DG_DATABASE_URL_FILE": str(path)}):
        _assert_settled(_read(), ["DG_DATABASE_URL_FILE"])


@given(_LIMITS | TEXTS)
@fuzzed(120)
def test_any_text_as_a_limit(text: str) -> None:
    try:
        found = parsed(RequestLimits(read=text))
    except ValueError as error:
        assert "read" in str(error)
        return
    assert found or text == "off"
    for item in found.values():
        assert item.amount >= 1
        assert item.get_expiry() >= 1
        assert text.count("/") + text.count("per") == 1, (
            "more than one limit, of which one would be left out of account"
        )


@given(_ADDRESSES | TEXTS)
@fuzzed(150)
def test_any_address_of_counters_and_of_a_collector(address: str) -> None:
    for setting, take in (
        ("DG_LIMIT_STORAGE_URL", lambda: RateLimits.open(RequestLimits(), {}, address)),
        ("DG_OTLP_ENDPOINT", lambda: edge_spans._parts(address)),
    ):
        try:
            take()
        except ValueError as error:
            assert str(error).startswith(setting)
            assert _SECRET not in str(error)
