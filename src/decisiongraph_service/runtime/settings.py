"""The settings of the service: one typed class, read from the environment with the prefix `DG_`, and from a file."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from decisiongraph_service.domain import limits
from decisiongraph_service.runtime import secret_texts, settings_file

PREFIX: Final = "DG_"


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name}".upper()


class Environment(EnvSettingsSource):
    """The variables that are settings."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The JSON of a variable; the text itself if it is none, which validation refuses and knows the name of."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


class Settings(BaseSettings):
    """Everything that can be configured. A field `grpc_port` is the environment variable `DG_GRPC_PORT`.

    What is given here comes before the environment, that before the settings file, and that before the default.
    """

    model_config = SettingsConfigDict(
        # Of what is wrong the value is not told: it may be secret.
        env_prefix=PREFIX,
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    config_file: Path | None = Field(
        default=None,
        description="TOML file with settings: their names without `DG_` in lower case, `grpc_port = 50051`. The "
        "environment comes before it (docs/operations/API_RUNTIME.md, section 1).",
    )
    profile: Literal["development", "production"] = Field(
        default="development",
        description="`development` makes keys, accounts and tenants by itself; `production` makes nothing by itself.",
    )
    database_url_file: Path | None = Field(
        default=None,
        description="File that holds what DG_DATABASE_URL would: a secret that is mounted. Read when a process starts, "
        "and only if DG_DATABASE_URL is not set.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        validate_default=True,
        description="Postgres 15 or newer, `postgresql://user:password@host:port/database`. "
        "Unset: `decisiongraph run` starts an embedded one.",
    )
    database_pool_size: int = Field(default=10, ge=1, le=200, description="Most database connections of one server.")
    data_dir: Path = Field(
        default=Path(".run"), description="Where `decisiongraph run` keeps database, keys, logs and addresses."
    )

    grpc_host: str = Field(default="127.0.0.1", description="Address that the gRPC server listens on.")
    grpc_port: int = Field(default=50051, ge=0, le=65535, description="Port of the gRPC server; 0 takes a free one.")
    grpc_own_port: int | None = Field(
        default=None, ge=0, le=65535, description="Second port of one worker alone; set by `serve --workers`."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Server processes of `serve` and `run`. Each has a port of its own after DG_GRPC_PORT: +1, +2, …",
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="Certificate chain of the gRPC server, PEM; read anew when it changes. Unset: no TLS, for loopback "
        "and networks that nobody else is on.",
    )
    tls_key_file: Path | None = Field(default=None, description="Its key, PEM.")
    tls_client_ca_file: Path | None = Field(
        default=None,
        description="Authority of clients' certificates, PEM: the server takes only connections that show one of its.",
    )
    rest_host: str = Field(default="127.0.0.1", description="Address that Envoy listens on.")
    rest_port: int = Field(default=8080, ge=0, le=65535, description="Port of Envoy; 0 takes a free one.")
    drain_seconds: float | None = Field(
        default=None,
        ge=0,
        le=300,
        description="How long a server that is to stop reports NOT_SERVING and still takes calls, so that balancers "
        "notice. Unset: 5 in the production profile, 0 in development.",
    )
    shutdown_grace_seconds: float = Field(
        default=10.0, ge=0, le=300, description="How long running calls may go on after a stop was asked for."
    )

    token_issuer: str = Field(default="decisiongraph-development", min_length=1, description="`iss` of tokens.")
    token_audience: str = Field(default="decisiongraph", min_length=1, description="`aud` of tokens.")
    token_lifetime_seconds: int = Field(
        default=900, ge=60, le=86_400, description="How long a token that IssueToken makes is valid, in seconds."
    )
    token_key_file: Path | None = Field(
        default=None,
        description="PEM file with the Ed25519 key that signs tokens. "
        "Unset, in the development profile: `<data_dir>/token-key.pem`, made on the first start.",
    )
    token_keys_dir: Path | None = Field(
        default=None,
        description="Folder of keys that sign and verify tokens and may be changed while servers run "
        "(`decisiongraph token-keys`). That of DG_TOKEN_KEY_FILE, if set, counts as older than all of them.",
    )
    token_key_grace_seconds: float = Field(
        default=300.0,
        ge=0,
        le=86_400,
        description="How long a key of that folder is only published before it signs, in seconds. Below 30, Envoy may "
        "not know it in time.",
    )
    external_issuers: Path | None = Field(
        default=None,
        description="JSON file with other issuers whose tokens are taken (docs/operations/API_SECURITY.md).",
    )

    secret_guard: Literal["precise", "reference"] = Field(
        default="precise", description="Which texts count as secrets: see EVENT_ENVELOPE_CONTRACT.md, secret guard."
    )
    max_id_bytes: int = Field(default=200, ge=1, le=200, description="Longest id or key of an envelope, UTF-8 bytes.")
    max_tags: int = Field(default=64, ge=0, le=64, description="Most tags of an event.")
    max_tag_bytes: int = Field(default=100, ge=1, le=100, description="Longest tag, UTF-8 bytes.")
    max_payload_bytes: int = Field(
        default=262_144, ge=2, le=262_144, description="Longest payload, bytes of canonical JSON."
    )
    max_payload_depth: int = Field(default=32, ge=1, le=32, description="Deepest nesting of a payload.")
    max_payload_values: int = Field(default=10_000, ge=1, le=10_000, description="Most values in a payload.")

    freshness_wait: float = Field(
        default=2.0, ge=0, le=60, description="Longest wait of a read for its projection, in seconds."
    )
    projector_enabled: bool = Field(
        default=True,
        description="Whether servers keep the projections up to date and run replay jobs. `false`: they leave that to "
        "`decisiongraph worker`, of which at least one must run.",
    )
    rebuild_enabled: bool | None = Field(
        default=None,
        description="Whether StartReplay may rebuild projections. Unset: in the development profile only.",
    )
    max_request_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1024, le=4 * 1024 * 1024, description="Longest request message."
    )
    max_concurrent_calls: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Most calls at work in one server, streams excepted; more get RESOURCE_EXHAUSTED.",
    )
    max_concurrent_streams: int = Field(
        default=1000, ge=1, le=100_000, description="Most streams (watches, ingestion) of one server."
    )

    limit_read: str = Field(
        default="1000/second", description="Most calls for readers, of one account and of one tenant; `off`: no limit."
    )
    limit_write: str = Field(default="5000/second", description="Likewise calls for writers.")
    limit_admin: str = Field(default="100/second", description="Likewise calls for administrators.")
    limit_public: str = Field(default="100/second", description="Most IssueToken calls of the installation.")
    limit_events: str = Field(
        default="50000/second", description="Most events appended by one account and in one tenant; at least 1,000."
    )
    limit_bytes: str = Field(
        default="67108864/second", description="Likewise bytes of the requests that append; at least 4 MiB."
    )
    limit_overrides: dict[str, dict[str, str]] = Field(
        default={},
        description='Other limits of single tenants, JSON: `{"acme": {"read": "5000/second", "events": "off"}}`. '
        "What is not named is as above.",
    )
    limit_storage_url: str = Field(
        default="async+memory://",
        description="Where is counted: in each process, or for all servers together in Redis or Valkey, "
        "`async+redis://host:6379` (needs the extra `fleet`).",
    )

    slow_reader_seconds: float = Field(
        default=30.0, ge=1, le=3600, description="How long a stream waits for its caller to read before it ends."
    )
    heartbeat_seconds: float = Field(
        default=5.0, ge=0.1, le=60, description="Longest silence of a watch before it sends a heartbeat."
    )
    max_watchers_per_tenant: int = Field(
        default=100, ge=1, le=10_000, description="Most watches of one tenant at one server."
    )
    allow_unsafe_database: bool = Field(
        default=False,
        description="Start although the database may lose commits (fsync, full_page_writes, "
        "synchronous_commit). For tests only.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of /metrics for Prometheus; 0 takes a free one. Unset: nothing is measured. The workers of "
        "`serve --workers` have the ports after it: +1, +2, …",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of /metrics. It tells of all tenants together, and asks for no token."
    )
    tenant_classes: dict[str, str] = Field(
        default={},
        description='Label of single tenants in metrics, JSON: `{"acme": "gold"}`; all others are `standard`. At most '
        "20 classes.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="Base URL of a collector that takes OTLP over HTTP, e.g. `http://127.0.0.1:4318`. Unset: no spans.",
    )
    otlp_sample_ratio: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of calls that are traced, unless the caller's `traceparent` decides.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(default="json", description="One JSON object or one line per event.")

    @field_validator("*", mode="before")
    @classmethod
    def _can_be_handed_on(cls, value: object) -> object:
        if not _is_plain(value):
            raise ValueError("must be UTF-8 without NUL; other text cannot be handed on, stored or shown")
        return value

    @field_validator("database_url")
    @classmethod
    def _from_file(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        path: Path | None = info.data.get("database_url_file")
        if url is not None or path is None:
            return url
        try:
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            shown = secret_texts.masked_path(path)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ValueError(f"{shown} cannot be read ({reason}); it must be the path of a file") from error
        if not text:
            raise ValueError(f"{path} is empty; write the address of the database into it")
        return SecretStr(text)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What pydantic reads, the first before the others.

        Raises:
            SettingsFileError: the settings file cannot be used.
        """
        environment = Environment(settings_cls)
        return init_settings, environment, InitSettingsSource(settings_cls, cls.values_of_file(environment))

    @classmethod
    def values_of_file(cls, environment: PydanticBaseSettingsSource) -> dict[str, Any]:
        """What stands in the settings file that the environment names, not yet checked; empty if it names none.

        Raises:
            SettingsFileError: the file cannot be used.
        """
        name = settings_file.NAMED_BY
        path = environment.get_field_value(cls.model_fields[name], name)[0]
        values = {} if path is None else settings_file.read(Path(path), cls.model_fields)
        of_url = "database_url_file"
        if environment.get_field_value(cls.model_fields[of_url], of_url)[0] is not None:
            # It says what an address in the settings file says, and the environment comes first.
            values.pop("database_url", None)
        return values

    def as_environment(self) -> dict[str, str]:
        """Variables for a child process, so that it has these settings whatever becomes of the settings file."""
        given = {variable(name): _text(getattr(self, name)) for name in self.model_fields_set}
        return given | {variable(settings_file.NAMED_BY): ""}

    @property
    def allows_rebuilds(self) -> bool:
        """Whether projections may be rebuilt: by default not in the production profile."""
        return self.profile != "production" if self.rebuild_enabled is None else self.rebuild_enabled

    @property
    def drains_for_seconds(self) -> float:
        """How long a server goes on serving after it was asked to stop."""
        if self.drain_seconds is not None:
            return self.drain_seconds
        return 5.0 if self.profile == "production" else 0.0

    @property
    def event_limits(self) -> limits.EventLimits:
        """The limits of an event (EVENT_ENVELOPE_CONTRACT.md, limits)."""
        return limits.EventLimits(
            max_id_bytes=self.max_id_bytes,
            max_tags=self.max_tags,
            max_tag_bytes=self.max_tag_bytes,
            max_payload_bytes=self.max_payload_bytes,
            max_payload_depth=self.max_payload_depth,
            max_payload_values=self.max_payload_values,
        )

    @property
    def request_limits(self) -> limits.RequestLimits:
        """The limits of every account and tenant."""
        return limits.RequestLimits(
            read=self.limit_read,
            write=self.limit_write,
            admin=self.limit_admin,
            public=self.limit_public,
            events=self.limit_events,
            bytes=self.limit_bytes,
        )

    @property
    def tenant_limits(self) -> dict[str, limits.RequestLimits]:
        """The limits of single tenants, by id.

        Raises:
            ValueError: DG_LIMIT_OVERRIDES names a limit that there is not.
        """
        try:
            return {
                tenant: replace(self.request_limits, **of_tenant) for tenant, of_tenant in self.limit_overrides.items()
            }
        except TypeError as error:
            names = ", ".join(field.name for field in fields(limits.RequestLimits))
            raise ValueError(
                f"DG_LIMIT_OVERRIDES names a limit that there is not ({error}); there are {names}"
            ) from error


def _is_plain(value: object) -> bool:
    """Whether all texts of a value, and of what it holds, are UTF-8 without NUL."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            if "\0" in one or any("\ud800" <= character <= "\udfff" for character in one):
                return False
        elif isinstance(one, Mapping):
            left.extend((*one.keys(), *one.values()))
        elif isinstance(one, list):
            left.extend(one)
    return True


def _text(value: object) -> str:
    """A value as a variable of the environment says it."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, dict)) else str(value)
