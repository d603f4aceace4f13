"""Settings: environment variables named CONTROLTOWER_*, and the shop's own file.

A provider's credentials come from the environment or, inside Airflow, from the connections
`sendgrid_default`, `smtp_default` and `fcm_default`.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from controltower.errors import BadSettings, first_mistake, yaml_mistake
from controltower.shop import Shop

INCLUDE = Path(__file__).resolve().parents[1]  # the folder that holds campaigns, templates and shops
PREFIX = "CONTROLTOWER_"


class Settings(BaseSettings):
    """Every CONTROLTOWER_* variable, with its default."""

    # An empty variable is an unset one: so compose.yaml hands on what .env leaves out.
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default=Path(".controltower"), description="the folder of one shop: lake, ledger, models")
    database_url: SecretStr | None = Field(default=None, description="the ledger; by default SQLite in the home")
    now: datetime | None = Field(default=None, description="each process starts its clock here; with speed: the home's")
    speed: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="how many seconds the home's clock moves in one"
    )
    source: str | None = Field(default=None, description="where ingest_data reads, as in `ingest --source`")
    simulated_customers: int | None = Field(
        default=None, ge=20, description="how many customers `simulated` and `null-shop` have; by default 3,000"
    )
    simulated_seed: int = Field(default=1, ge=0, description="another seed is another shop of the same kind")
    online_retail: Path | None = Field(
        default=None, description="the UCI file, as .parquet or .xlsx, if not downloaded"
    )
    shop: Path | None = Field(default=None, description="the shop's file; by default shop.yaml in the home")
    campaigns: Path = INCLUDE / "campaigns"
    templates: Path = INCLUDE / "templates"
    public_url: str = Field(default="http://127.0.0.1:8090", description="where customers reach the public app")
    secret_key: SecretStr | None = Field(default=None, description="signs links; by default a key kept in the home")
    email_provider: str = Field(default="sendgrid", description="which provider sends e-mail: sendgrid or smtp")
    sendgrid_url: str = "https://api.sendgrid.com"
    sendgrid_api_key: SecretStr | None = None
    sendgrid_webhook_keys: str = Field(
        default="", description="SendGrid's public keys for signed events, parted by commas: two while one is replaced"
    )
    events_api_keys: SecretStr | None = Field(
        default=None, description="API keys for POST /v1/events, parted by commas: two while one is replaced"
    )
    webhook_max_age: int = Field(
        default=90_000, ge=1, description="seconds after which a signed request is refused; SendGrid retries for a day"
    )
    smtp_url: SecretStr | None = Field(
        default=None, description="the mail server, as smtp+starttls://user:password@host:587 or smtps://..."
    )
    approvers: str = Field(
        default="", description="Airflow's users who may approve a run, parted by commas; none: anybody but who asked"
    )
    fcm_url: str = "https://fcm.googleapis.com"
    fcm_credentials: Path | None = Field(default=None, description="a service account's JSON file")
    memory: str = Field(default="1GB", description="DuckDB's memory limit")
    spill: str = Field(default="20GB", description="how much disk DuckDB may use beyond its memory")
    threads: int = Field(default=2, ge=1, description="DuckDB's threads")
    lake: str | None = Field(default=None, description="where the lake is, if not in the home: s3://bucket/prefix")
    lake_connection: str | None = Field(default=None, description="Airflow's connection of the lake's object store")
    lake_copies: str = Field(default="20GB", description="how much disk the copies of an object store's lake may take")
    lake_days: int = Field(default=3, ge=0, description="how many days earlier versions of the lake are kept")

    @field_validator("memory", "spill", "lake_copies")
    @classmethod
    def _size(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?\s*([KMGT]I?)?B", value, re.IGNORECASE):
            raise ValueError(f"{value!r} is no size such as 512MB or 1GB")
        return value

    @field_validator("lake")
    @classmethod
    def _store(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(s3|gs)://[^/]+/.+", value):
            raise ValueError(f"{value!r} is no place such as s3://bucket/prefix or gs://bucket/prefix")
        return value

    @field_validator("events_api_keys")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value and any(len(key) < _SHORTEST_KEY for key in _parted(value.get_secret_value())):
            raise ValueError(f"an API key has {_SHORTEST_KEY} characters or more, as of `openssl rand -hex 32`")
        return value

    @field_validator("now")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a zone, as in 2026-06-15T07:00:00+09:00")
        return value

    @property
    def ledger_url(self) -> str:
        if self.database_url:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home.resolve() / 'ledger.db'}"

    @property
    def webhook_keys(self) -> tuple[str, ...]:
        return _parted(self.sendgrid_webhook_keys)

    @property
    def event_keys(self) -> tuple[str, ...]:
        return _parted(self.events_api_keys.get_secret_value()) if self.events_api_keys else ()

    @property
    def approver_names(self) -> tuple[str, ...]:
        return _parted(self.approvers)

    @property
    def shop_file(self) -> Path:
        return self.shop or self.home / "shop.yaml"

    @property
    def key_place(self) -> str:
        """Where the secret is: its variable, else its file."""
        return "CONTROLTOWER_SECRET_KEY" if self.secret_key else str(self._key_file)

    def signing_key(self) -> bytes:
        """The secret that signs links and keys address hashes. BadSettings as `kept_key`, or where there is none."""
        key = self.kept_key()
        if key is None:
            raise BadSettings(
                f"There is no key at {self.key_place}.",
                "`controltower doctor` says whether it got lost, and makes one for a home that never had one.",
            )
        return key

    def kept_key(self) -> bytes | None:
        """The same, None where there is none. White space around it isn't part of it: editors and shells add some.

        BadSettings for one that could be guessed, such as a file that lost its content: with it anybody makes links.
        """
        path = self._key_file
        if self.secret_key:
            key = self.secret_key.get_secret_value().encode().strip()
        else:
            try:
                key = _kept_key(path, path.stat().st_mtime_ns)
            except FileNotFoundError:
                return None
        if len(key) < _SHORTEST_KEY:
            raise BadSettings(
                f"{self.key_place} is no secret: it has fewer than {_SHORTEST_KEY} characters.",
                "Restore it from a backup. A new key makes every link that was sent invalid, and no suppressed address"
                " is recognised any more.",
            )
        return key

    def make_key(self) -> bytes:
        """Keep a new secret in the home; where another process was first, that one's. Only the ledger says when."""
        _write_once(self._key_file, secrets.token_hex(32))
        return self.signing_key()

    @property
    def _key_file(self) -> Path:
        return self.home / "secret.key"


_SHORTEST_KEY = 16  # bytes; the home's own has 64


@lru_cache(maxsize=8)  # each mail has a dozen links
def _kept_key(path: Path, _written: int) -> bytes:
    return path.read_bytes().strip()


def _parted(text: str) -> tuple[str, ...]:
    return tuple(part for p in text.split(",") if (part := p.strip()))


def _write_once(path: Path, text: str) -> None:
    """A private file, whole from the start; where another process was first, its text holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as f:
        f.write(text)
    try:
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        fresh.unlink()


def load() -> Settings:
    """The settings of this process, read afresh from the environment."""
    try:
        return Settings()
    except ValidationError as e:
        where, mistake = first_mistake(e)
        raise BadSettings(f"{PREFIX}{where.upper()} can't be used: {mistake}.") from None


def load_shop(settings: Settings) -> Shop:
    """The shop's file, validated."""
    path = settings.shop_file
    if not path.is_file():
        raise BadSettings(
            f"There is no shop file at {path}.",
            "Run `controltower ingest --source ...` first, or set CONTROLTOWER_SHOP.",
        )
    return parse_shop(path)


def shop_if_any(settings: Settings) -> Shop | None:
    """The shop, or None where its file is missing or broken: whoever only shows something does without."""
    try:
        return load_shop(settings)
    except (BadSettings, OSError):
        return None


def parse_shop(path: Path) -> Shop:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise BadSettings(
                f"{path.name} is empty." if given is None else f"{path.name} has no settings, as `name: Shop`.",
                "Start from include/shops/folder.yaml.",
            )
        return Shop.model_validate(given)
    except ValidationError as e:
        where, mistake = first_mistake(e)
        raise BadSettings(f"{path.name}: {where or 'the shop'}: {mistake}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise BadSettings(f"{path.name} is not valid YAML: {yaml_mistake(e)}.") from None


def airflow_connection(name: str) -> dict[str, Any] | None:
    """Host, port, login, password and extra of an Airflow connection; None outside Airflow or where there is none."""
    found = _in_airflow(name)
    if found is None:
        return None
    return {
        "host": found.host,
        "port": found.port,
        "login": found.login,
        "password": found.password,
        "extra": found.extra_dejson,
    }


def connection_url(name: str) -> str | None:
    """The URL of a database: of an Airflow connection, or outside Airflow of the variable AIRFLOW_CONN_<NAME>.

    None where there is none. Its scheme is SQLAlchemy's: Airflow's `postgres` becomes `postgresql+psycopg`.
    """
    found = _in_airflow(name)
    text = found.get_uri() if found else os.environ.get(f"AIRFLOW_CONN_{name.upper()}")
    if text and text.startswith("{"):
        raise BadSettings(f"AIRFLOW_CONN_{name.upper()} is JSON.", "Outside Airflow write it as a URL.")
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", text) if text else None


def _in_airflow(name: str) -> Any:
    """Airflow's own connection; None outside a task, or where there is none."""
    if "AIRFLOW_CTX_DAG_ID" not in os.environ:
        return None
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return Connection.get(name)
    except AirflowNotFoundException:
        return None
