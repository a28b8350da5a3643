"""Settings from the environment, checked at start; what is secret is masked wherever it is shown."""

import os
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schedules.calendar.zones import zone as read_zone
from schedules.charging.identity import checked_environment
from schedules.errors import BadMoney, Code, FixedCode, RuleBroken
from schedules.money.amount_limits import AmountLimits, parse_limits
from worker.accounts import Account, BadAccounts, read_accounts, read_secret
from worker.addresses import (
    SECRET_BYTES,
    SECRET_PREFIX,
    check_broker,
    check_database,
    check_gateway,
    check_networks,
    check_proxy,
    check_webhook,
    is_live,
    is_webhook_secret,
)
from worker.certificates import CertificateFiles
from worker.runtime import up_environment
from worker.setting_names import PREFIX, explained, unknown_names

LEAST_LIVE_READ_TIMEOUT = 60  # seconds; the gateway's own figure for calls that move money


class BadSettings(FixedCode, code=Code.HELD):
    """The environment does not say what is needed, or says it wrongly."""


class Settings(BaseSettings):
    """Everything that differs between installations; docs/how-to/configuration.md explains them."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: str = Field(
        description="A letter and three lower-case letters or digits; part of every merchant_uid.",
        examples=["prod"],
    )
    database_url: SecretStr = Field(
        description="Address of PostgreSQL 15 or newer.", examples=["postgresql+psycopg://user@host/name"]
    )
    broker_url: SecretStr = Field(
        description="Address of Valkey, Redis or RabbitMQ.", examples=["rediss://:password@host:6379/0"]
    )
    account: str = Field("main", pattern=r"^[a-z0-9-]{1,40}$", description="Name of the main gateway account.")
    portone_url: str = Field("https://api.iamport.kr", description="Address of the gateway or of the simulator.")
    portone_key: SecretStr = Field(description="imp_key of the account.")
    portone_secret: SecretStr = Field(
        description="imp_secret of the account. Required unless AGAIN_PORTONE_SECRET_FILE is set."
    )
    portone_secret_file: Path | None = Field(
        None, description="File that holds imp_secret, in place of AGAIN_PORTONE_SECRET. Changes need no restart."
    )
    portone_tier: str | None = Field(None, description="Code of a sub-merchant: letters and digits.")
    sandbox: bool = Field(False, description="Whether the account's channels are test channels.")
    accounts_file: Path | None = Field(None, description="TOML file with further gateway accounts.")
    proxy_url: SecretStr | None = Field(
        None,
        description="HTTP proxy for the calls to the gateway at an https:// address. Webhooks do not use it.",
        examples=["http://user:password@proxy.example:3128"],
    )
    tls_ca: Path | None = Field(None, description="PEM file of authorities to trust beside the public ones.")
    tls_client_cert: Path | None = Field(None, description="PEM file of the certificate shown to the gateway.")
    tls_client_key: Path | None = Field(None, description="PEM file of its key, if another; unencrypted.")
    webhook_url: SecretStr | None = Field(
        None,
        description="Address that events are sent to; http:// only on private networks. Without it events wait.",
        examples=["https://shop.example/hooks/again"],
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="Signs events: whsec_ and 24 to 64 bytes in base 64. Several, separated by blanks, while one "
        "is rotated. Required with AGAIN_WEBHOOK_URL.",
    )
    listener_allow: str = Field(
        "52.78.100.19,52.78.48.223,52.78.5.241",
        description="Addresses or networks, separated by commas, whose webhooks `again listen` accepts. The "
        "default is PortOne's.",
    )

    connect_timeout: float = Field(5, gt=0, description="Seconds to open a connection to the gateway.")
    read_timeout: float = Field(60, gt=0, description="Seconds to wait for the gateway, which waits for the bank.")
    write_timeout: float = Field(10, gt=0, description="Seconds to send a request, which is under 2 kB.")
    call_deadline: float = Field(75, gt=0, description="Seconds for a whole call; above AGAIN_READ_TIMEOUT.")
    lease: float = Field(300, gt=0, description="Seconds that a worker owns an attempt; above two call deadlines.")
    visibility_timeout: float = Field(900, gt=0, description="Seconds until the broker redelivers a message.")
    quiet_time: float = Field(
        900, gt=0, description="Seconds after a call before 'not found' at the gateway counts."
    )

    rate: float = Field(
        50, ge=0, le=10_000, description="Calls per second for the account, all workers; 0: no cap."
    )
    reconcile_rate: float = Field(
        5, gt=0, le=1000, description="Calls per second for the account while its payments are reconciled."
    )
    refund_doubles: Literal["ask", "at_once"] = Field(
        "ask", description="Refund a second payment for one charge when a person asks for it, or at once."
    )
    breaker_refusals: int = Field(
        5, ge=1, le=10_000,
        description="Customers refused within ten minutes without a paid call: the breaker stops the account.",
    )  # fmt: skip
    charge_limit: str = Field(
        "KRW=1000000 JPY=100000 USD=1000 EUR=1000",
        description="Amounts, in major units, above which an ad-hoc charge waits for a second person.",
    )
    charge_day_limit: str = Field(
        "KRW=100000000 JPY=10000000 USD=100000 EUR=100000",
        description="Sums of an account's day in AGAIN_ZONE, in major units, up to which ad-hoc charges and "
        "batches need no second person.",
    )
    batch_limit: str = Field(
        "KRW=10000000 JPY=1000000 USD=10000 EUR=10000",
        description="Sums, in major units, above which a second person must approve a batch.",
    )
    queue_bound: int = Field(
        2000,
        ge=1,
        le=100_000,
        description="Charges of an account in the broker at once, or four seconds of its rate if that is fewer.",
    )
    queue_patience: float = Field(60, gt=0, description="Seconds until a queued charge is queued again.")
    concurrency: int = Field(16, ge=1, le=256, description="Threads of a process, and its calls per account.")
    beat_interval: float = Field(1, gt=0, le=5, description="Seconds between two reads of the plans by beat.")
    zone: str = Field("Asia/Seoul", description="The shop's IANA time zone, for output, days and new plans.")
    clock_file: Path | None = Field(
        None, description="File with seconds to move the clock by; demos and tests only."
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="Port of /metrics, /healthz and /readyz of a process; none unless set."
    )
    metrics_host: str = Field("127.0.0.1", min_length=1, description="Address of AGAIN_METRICS_PORT.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level to log.")
    log_format: Literal["text", "json"] = Field("text", description="Format of log lines.")

    @field_validator("zone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            return read_zone(name).key
        except RuleBroken as error:
            raise ValueError(str(error)) from None

    @field_validator("environment")
    @classmethod
    def _environment(cls, name: str) -> str:
        try:
            return checked_environment(name)
        except RuleBroken as error:
            raise ValueError(str(error)) from None

    @field_validator("database_url")
    @classmethod
    def _database(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError(
                "it must start with postgresql:// or postgresql+psycopg://; no other database will do"
            )
        check_database(url.get_secret_value().replace("postgresql://", "postgresql+psycopg://", 1))
        return url

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, url: SecretStr) -> SecretStr:
        schemes = ("redis://", "rediss://", "amqp://", "amqps://")
        if not url.get_secret_value().startswith(schemes):
            raise ValueError(f"it must start with one of {', '.join(schemes)}")
        check_broker(url.get_secret_value())
        return url

    @field_validator("charge_limit", "charge_day_limit", "batch_limit")
    @classmethod
    def _limit(cls, text: str) -> str:
        try:
            parse_limits(text)
        except BadMoney as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("portone_url")
    @classmethod
    def _gateway(cls, url: str) -> str:
        check_gateway(url)
        return url

    @field_validator("portone_key", "portone_secret")
    @classmethod
    def _credential(cls, credential: SecretStr) -> SecretStr:
        if not credential.get_secret_value().strip():
            raise ValueError("is empty")
        return credential

    @field_validator("portone_tier")
    @classmethod
    def _tier(cls, tier: str | None) -> str | None:
        if tier is not None and not (tier.isascii() and tier.isalnum()):
            raise ValueError("it must be a code of letters and digits; leave it out where there is none")
        return tier

    @model_validator(mode="before")
    @classmethod
    def _secret_of_file(cls, given: dict[str, Any]) -> dict[str, Any]:
        file = given.get("portone_secret_file")
        if not file or not str(file).strip():
            return given
        if given.get("portone_secret"):
            raise ValueError("AGAIN_PORTONE_SECRET and AGAIN_PORTONE_SECRET_FILE are both set; leave one out")
        try:
            return given | {"portone_secret": read_secret("AGAIN_PORTONE_SECRET_FILE", file)}
        except BadAccounts as error:
            raise ValueError(str(error)) from None

    @field_validator(
        "webhook_url", "webhook_secret", "accounts_file", "portone_secret_file", "proxy_url", "tls_ca",
        "tls_client_cert", "tls_client_key", mode="before",
    )  # fmt: skip
    @classmethod
    def _unless_empty(cls, text: object) -> object:
        """A variable that is there and empty is one that is not set: so docker-compose hands it on."""
        return None if isinstance(text, str) and not text.strip() else text

    @field_validator("webhook_url")
    @classmethod
    def _webhook(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_webhook(url.get_secret_value())
        return url

    @field_validator("listener_allow")
    @classmethod
    def _allowed(cls, text: str) -> str:
        check_networks(text)
        return text

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret(cls, secrets: SecretStr | None) -> SecretStr | None:
        for place, secret in enumerate(secrets.get_secret_value().split() if secrets else (), start=1):
            if not is_webhook_secret(secret):
                raise ValueError(
                    f"secret {place} is not {SECRET_PREFIX} and {SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in "
                    "base 64; docs/how-to/events.md says how to make one"
                )
        return secrets

    @field_validator("proxy_url")
    @classmethod
    def _proxy(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if url is not None:
            check_proxy(url.get_secret_value(), info.data.get("portone_url", ""))
        return url

    @model_validator(mode="after")
    def _certificates_can_be_read(self) -> "Settings":
        self.certificates.check()
        return self

    @model_validator(mode="after")
    def _webhook_is_whole(self) -> "Settings":
        if self.webhook_url is not None and self.webhook_secret is None:
            raise ValueError("AGAIN_WEBHOOK_URL is set and AGAIN_WEBHOOK_SECRET is not: events are always signed")
        return self

    @model_validator(mode="after")
    def _times_fit(self) -> "Settings":
        live = is_live(self.portone_url)
        if live and self.read_timeout < LEAST_LIVE_READ_TIMEOUT:
            raise ValueError(f"AGAIN_READ_TIMEOUT {self.read_timeout} is below {LEAST_LIVE_READ_TIMEOUT} seconds")
        if live and self.clock_file is not None:
            raise ValueError("AGAIN_CLOCK_FILE moves the clock; it cannot be used with the live gateway")
        if self.clock_file is not None and not self.clock_file.is_file():
            # Without the file the clock would stand where the machine's does, years from the others' perhaps.
            raise ValueError(f"AGAIN_CLOCK_FILE {str(self.clock_file)!r} is no file; write 0 into it to begin")
        # One 401 costs a second call and a fresh token, all under one lease.
        rising = (
            ("AGAIN_READ_TIMEOUT", self.read_timeout),
            ("AGAIN_CALL_DEADLINE", self.call_deadline),
            ("half of AGAIN_LEASE", self.lease / 2),
            ("half of AGAIN_VISIBILITY_TIMEOUT", self.visibility_timeout / 2),
        )
        for (low, a), (high, b) in pairwise(rising):
            if a >= b:
                raise ValueError(f"{low} ({a:g} s) must be below {high} ({b:g} s)")
        if self.quiet_time <= self.call_deadline:
            raise ValueError(f"AGAIN_QUIET_TIME ({self.quiet_time:g} s) must be above AGAIN_CALL_DEADLINE")
        return self

    @property
    def certificates(self) -> CertificateFiles:
        """The certificate files of the HTTP client."""
        return CertificateFiles(self.tls_ca, self.tls_client_cert, self.tls_client_key)

    @property
    def main_account(self) -> Account:
        """The gateway account that the environment itself names."""
        return Account(
            name=self.account, portone_url=self.portone_url, key=self.portone_key, secret=self.portone_secret,
            tier=self.portone_tier, sandbox=self.sandbox, rate=self.rate, reconcile_rate=self.reconcile_rate,
        )  # fmt: skip

    def with_secret_read_again(self) -> "Settings":
        """The same settings with what AGAIN_PORTONE_SECRET_FILE holds now; BadAccounts when it cannot be read."""
        if self.portone_secret_file is None:
            return self
        secret = read_secret("AGAIN_PORTONE_SECRET_FILE", self.portone_secret_file)
        return self.model_copy(update={"portone_secret": secret})

    def accounts(self) -> tuple[Account, ...]:
        """Every gateway account, the main one first; BadAccounts when the file of the others is wrong."""
        further = read_accounts(self.accounts_file, self.account) if self.accounts_file else ()
        for account in further:
            if is_live(account.portone_url) and self.clock_file is not None:
                raise BadSettings(
                    "AGAIN_CLOCK_FILE moves the clock; it cannot be used while account "
                    f"{account.name!r} is at the live gateway"
                )
            if is_live(account.portone_url) and self.read_timeout < LEAST_LIVE_READ_TIMEOUT:
                raise BadSettings(
                    f"AGAIN_READ_TIMEOUT {self.read_timeout} is below {LEAST_LIVE_READ_TIMEOUT} seconds, and "
                    f"account {account.name!r} is at the live gateway"
                )
        return (self.main_account, *further)

    def limits(self, setting: Literal["charge_limit", "charge_day_limit", "batch_limit"]) -> AmountLimits:
        """A setting of limits; a currency that it leaves out has the default's limit."""
        return parse_limits(getattr(self, setting), defaults=str(Settings.model_fields[setting].default))

    @property
    def sqlalchemy_url(self) -> str:
        """The database's address with the driver that we use; holds the password."""
        return self.database_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Every secret that signs events, as they are."""
        return tuple(self.webhook_secret.get_secret_value().split()) if self.webhook_secret else ()

    @property
    def lease_time(self) -> timedelta:
        """How long a worker owns an attempt."""
        return timedelta(seconds=self.lease)


def installed_version() -> str:
    """The version of this code."""
    try:
        return version("again")
    except PackageNotFoundError:
        return "unknown"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment, or what is given instead; each bad variable is named, none shown with its value.

    What the environment leaves out is read from the file of a running `again up`: worker.runtime.up_environment.
    """
    problems = unknown_names(os.environ if environment is None else environment, Settings.model_fields)
    found = up_environment.read(os.environ) if environment is None else up_environment.Found()
    try:
        settings = _settings_with(found.values) if environment is None else _settings_of(environment)
    except ValidationError as error:
        problems += explained(error, found.why_not)
    else:
        if not problems:
            return settings
    raise BadSettings("settings are wrong:\n  " + "\n  ".join(problems)) from None


def shop_zone_name() -> str:
    """AGAIN_ZONE, not checked, of the environment or of `again up`; the other settings may be missing."""
    name = f"{PREFIX}ZONE"
    own = {key.upper(): value for key, value in os.environ.items()}.get(name)
    usual: str = Settings.model_fields["zone"].default
    return own or up_environment.read(os.environ).values.get(name) or usual


def _settings_with(values: Mapping[str, str]) -> Settings:
    """Read the environment; what it does not have is taken from these values."""
    own = {name.upper() for name in os.environ}
    return _settings_of({name: value for name, value in values.items() if name not in own})


def _settings_of(environment: Mapping[str, str]) -> Settings:
    short = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
    given: dict[str, Any] = {name: value for name, value in short.items() if name in Settings.model_fields}
    return Settings(**given)
