"""The settings file: what comes before it, what it refuses, and that nothing secret is told."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from decisiongraph_service.runtime import secret_texts, settings_sources
from decisiongraph_service.runtime.settings import Settings, variable
from decisiongraph_service.runtime.settings_file import MOST_BYTES, SettingsFileError

_URL = "postgresql://dg:hush@db.internal:5432/decisions"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that the environment names, and nothing else in it."""
    for name in [name for name in os.environ if name.startswith("DG_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "settings.toml"
    path.touch(mode=0o600)
    monkeypatch.setenv("DG_CONFIG_FILE", str(path))
    return path


def test_what_is_given_comes_before_the_environment_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("grpc_port = 1\nrest_port = 2\nworkers = 3\nmetrics_host = ''\n")
    monkeypatch.setenv("DG_REST_PORT", "20")
    monkeypatch.setenv("DG_WORKERS", "30")
    monkeypatch.setenv("DG_GRPC_PORT", "")
    settings = Settings(workers=33)
    assert (settings.grpc_port, settings.rest_port, settings.workers) == (1, 20, 33)
    assert settings.metrics_host == "127.0.0.1"
    found = settings_sources.sources()
    assert [found[name] for name in ("grpc_port", "rest_port", "metrics_host")] == ["file", "environment", "default"]


def test_tables_are_settings_that_the_environment_writes_as_json(file: Path) -> None:
    file.write_text('[limit_overrides.acme]\nread = "off"\n[tenant_classes]\nacme = "gold"\n')
    settings = Settings()
    assert settings.limit_overrides == {"acme": {"read": "off"}}
    assert settings.tenant_classes == {"acme": "gold"}


def test_a_database_that_the_environment_names_comes_before_one_in_the_file(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'database_url = "{_URL}"\n')
    mounted = tmp_path / "url"
    mounted.write_text("postgresql://mounted/x")
    monkeypatch.setenv("DG_DATABASE_URL_FILE", str(mounted))
    settings = Settings()
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://mounted/x"
    by_name = {one.name: one.source for one in settings_sources.list_settings(settings)}
    assert (by_name["database_url"], by_name["database_url_file"]) == ("database_url_file", "environment")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("grpc_prot = 1", "'grpc_prot' is no setting; did you mean grpc_port?"),
        ("DG_GRPC_PORT = 1", "'DG_GRPC_PORT' is no setting; did you mean grpc_port?"),
        ("[server]\ngrpc_port = 1", "'server' is no setting"),
        ('config_file = "x"', "config_file: a settings file cannot name another"),
        ("grpc_port = = 1", "no TOML: Invalid value (at line 1"),
        (f"workers = {'[' * 10_000}", "nested too deeply"),
        (f"workers = {'9' * 5_000}", "a number of too many digits"),
        ("#" * (MOST_BYTES + 1), "longer than 65,536 bytes"),
    ],
)
def test_what_is_not_understood_is_refused(file: Path, content: str, said: str) -> None:
    file.write_text(content)
    with pytest.raises(SettingsFileError) as refused:
        Settings()
    assert str(refused.value).startswith(f"{file}: ")
    assert said in str(refused.value)


def test_a_file_that_is_not_there_or_is_no_text_is_named(file: Path) -> None:
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(SettingsFileError, match=f"{file}: the settings file is not UTF-8"):
        Settings()
    file.unlink()
    with pytest.raises(SettingsFileError, match=f"{file}: .* cannot be read: No such file"):
        Settings()
    file.mkdir()
    with pytest.raises(SettingsFileError, match=f"{file}: .* cannot be read: Is a directory"):
        Settings()


def test_text_that_cannot_be_handed_on_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (r'grpc_host = "a\u0000"', r'tenant_classes = {acme = "\u0000"}', r'limit_overrides = {"\u0000" = {}}'):
        file.write_text(line)
        with pytest.raises(ValueError, match="must be UTF-8 without NUL"):
            Settings()
    file.write_text("")
    for variable_, value in (("DG_TENANT_CLASSES", r'{"acme": "\ud800"}'), ("DG_TLS_KEY_FILE", "\udcff")):
        monkeypatch.setenv(variable_, value)
        with pytest.raises(ValueError, match="must be UTF-8 without NUL"):
            Settings()
        monkeypatch.delenv(variable_)


def test_json_that_is_nested_too_deeply_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file.exists()
    monkeypatch.setenv("DG_LIMIT_OVERRIDES", "[" * 50_000)
    with pytest.raises(ValidationError, match="limit_overrides"):
        Settings()


@pytest.mark.parametrize("name", ["DG_DATABASE_URL_FILE", "DG_CONFIG_FILE"])
def test_an_address_in_the_place_of_a_file_is_not_told(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert file.exists()
    monkeypatch.setenv(name, _URL)
    with pytest.raises(ValueError, match="cannot be read") as refused:
        Settings()
    assert "hush" not in str(refused.value)
    assert "postgresql://dg:***@db.internal" in str(refused.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o640, 0o644, 0o666])
@pytest.mark.parametrize("line", [f'database_url = "{_URL}"', 'limit_storage_url = "async+redis://:hush@r:6379"'])
def test_a_secret_that_others_can_read_is_refused(file: Path, mode: int, line: str) -> None:
    file.write_text(line)
    file.chmod(mode)
    if os.geteuid() == 0:
        os.chown(file, 12_345, 12_345)
    with pytest.raises(
        SettingsFileError, match=rf"holds a secret \({line.split(' ')[0]}\).*mode {mode:04o}"
    ) as refused:
        Settings()
    assert "hush" not in str(refused.value)
    file.chmod(0o600)
    Settings()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of root")
def test_roots_file_may_be_shared_with_a_group_but_not_with_everybody(file: Path) -> None:
    file.write_text(f'database_url = "{_URL}"')
    file.chmod(0o440)
    assert Settings().database_url is not None
    file.chmod(0o444)
    with pytest.raises(SettingsFileError, match="holds a secret"):
        Settings()


def test_a_file_without_secrets_may_be_read_by_all(file: Path) -> None:
    file.write_text('limit_storage_url = "async+redis://redis:6379"\notlp_endpoint = "http://collector:4318"\n')
    file.chmod(0o644)
    assert Settings().otlp_endpoint == "http://collector:4318"


def test_a_child_has_the_same_settings_when_the_file_is_gone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        f'database_url = "{_URL}"\ngrpc_port = 7\nprojector_enabled = false\nfreshness_wait = 0.25\ndata_dir = "/x"\n'
        'tenant_classes = {"größe" = "gold"}\n'
    )
    settings = Settings()
    variables = settings.as_environment()
    file.unlink()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().model_dump(exclude={"config_file"}) == settings.model_dump(exclude={"config_file"})


def test_misspelt_variables_are_found_and_those_of_clients_are_not() -> None:
    environment = {"DG_GRPC_PROT": "1", "DG_SERVER": "x", "DG_TOKEN": "t", "dg_grpc_port": "1", "DG_Q": "", "PATH": "/"}
    found = [(one.name, one.meant) for one in settings_sources.unknown_variables(environment)]
    assert found == [("DG_GRPC_PROT", "; did you mean DG_GRPC_PORT?"), ("DG_Q", "")]
    assert not settings_sources.unknown_variables(dict.fromkeys(map(variable, Settings.model_fields), "1"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("async+memory://", "async+memory://"),
        ("http://collector:4318/x?y=1", "http://collector:4318/x?y=1"),
        ("postgresql://dg:hush@db:5432/d?sslmode=require", "postgresql://dg:***@db:5432/d?sslmode=require"),
        (
            "postgresql://dg@db/d?password=hush&application_name=a",
            "postgresql://dg@db/d?password=***&application_name=a",
        ),
        ("postgresql://dg:hu@sh@a:1,b:2/d", "postgresql://dg:***@a:1,b:2/d"),
        ("postgresql://dg:hu/sh@db/d", "***"),
        ("postgresql://dg:hu#sh@db/d", "***"),
        ("postgresql://dg:hush@[db/d", "***"),
        ("async+redis://:hush@redis:6379/0", "async+redis://:***@redis:6379/0"),
        ("https://hush@collector", "https://***@collector"),
        ("https://collector/#hush", "https://collector/#***"),
        ("no address", "no address"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(text: str, shown: str) -> None:
    assert secret_texts.masked(text) == shown
    assert secret_texts.holds_secret(text) is (text != shown)
