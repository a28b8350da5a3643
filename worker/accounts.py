"""Gateway accounts: each with its own address, credentials and rates; the further ones stand in a file."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from schedules.errors import Code, FixedCode
from worker.addresses import check_gateway
from worker.textfiles import UnreadableText, read_text

NAME = re.compile(r"[a-z0-9-]{1,40}")
PRIVATE = 0o077  # what the group and others may do with a file that holds secrets: nothing


class BadAccounts(FixedCode, code=Code.HELD):
    """The file of accounts does not say what is needed, or says it wrongly."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the gateway."""

    name: str
    portone_url: str
    key: SecretStr = field(repr=False)
    secret: SecretStr = field(repr=False)
    tier: str | None = None
    sandbox: bool = False
    rate: float = 50  # calls a second, all workers; 0 is no cap
    reconcile_rate: float = 5


class _Section(BaseModel):
    """One account as the file has it."""

    model_config = ConfigDict(strict=True, extra="forbid", hide_input_in_errors=True)

    portone_url: str = "https://api.iamport.kr"
    key: SecretStr | None = Field(None, min_length=1)
    key_file: str | None = None
    secret: SecretStr | None = Field(None, min_length=1)
    secret_file: str | None = None
    tier: str | None = Field(None, pattern=r"^[A-Za-z0-9]+$")
    sandbox: bool = False
    rate: float = Field(50, ge=0, le=10_000)
    reconcile_rate: float = Field(5, gt=0, le=1000)

    @model_validator(mode="after")
    def _is_whole(self) -> "_Section":
        for name in ("key", "secret"):
            if (getattr(self, name) is None) is (getattr(self, f"{name}_file") is None):
                raise ValueError(f"give {name}, or {name}_file, and not both")
        try:
            check_gateway(self.portone_url)
        except ValueError as error:
            raise ValueError(f"portone_url: {error}") from None
        return self


def read_accounts(file: Path, main: str) -> tuple[Account, ...]:
    """The accounts of a file in TOML, beside the main one; BadAccounts names the account and the field."""
    try:
        document = tomllib.loads(read_text(file))
    except UnreadableText as error:
        raise BadAccounts(f"AGAIN_ACCOUNTS_FILE {str(file)!r} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        # Its words name a line and a column, never what stands there.
        raise BadAccounts(f"AGAIN_ACCOUNTS_FILE {str(file)!r} is no TOML: {error}") from None
    sections = document.get("accounts")
    if set(document) - {"accounts"} or not isinstance(sections, dict):
        raise BadAccounts(
            f"{file}: it must hold sections such as [accounts.second], or an empty [accounts], and nothing else"
        )
    return tuple(_account(file, name, section, main) for name, section in sections.items())


def _account(file: Path, name: str, section: object, main: str) -> Account:
    where = f"{file}, account {name!r}"
    if not NAME.fullmatch(name):
        raise BadAccounts(f"{where}: a name has 1 to 40 small letters, digits and dashes")
    if name == main:
        raise BadAccounts(f"{where}: that is the main account's name, which AGAIN_PORTONE_KEY and the others set")
    try:
        read = _Section.model_validate(section)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        told = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'it'}: {_words(p)}" for p in problems)
        raise BadAccounts(f"{where}: {told}") from None
    if (read.key or read.secret) and _others_may_read(file):
        raise BadAccounts(
            f"{where}: the file holds a key and others may read it; use key_file, or `chmod 600 {file}`"
        )
    return Account(
        name=name, portone_url=read.portone_url, key=read.key or read_secret(f"{where}: key_file", read.key_file),
        secret=read.secret or read_secret(f"{where}: secret_file", read.secret_file), tier=read.tier,
        sandbox=read.sandbox, rate=read.rate, reconcile_rate=read.reconcile_rate,
    )  # fmt: skip


def _words(problem: Mapping[str, Any]) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _others_may_read(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & PRIVATE)
    except OSError as error:
        raise BadAccounts(f"AGAIN_ACCOUNTS_FILE {str(file)!r} cannot be read: {error.strerror}") from None


def read_secret(what: str, file: str | Path | None) -> SecretStr:
    """The text of a file that holds one secret, without the blanks around it; BadAccounts begins with `what`."""
    try:
        text = read_text(Path(file or "")).strip()
    except UnreadableText as error:
        raise BadAccounts(f"{what} {str(file)!r} cannot be read: {error}") from None
    if not text:
        raise BadAccounts(f"{what} {str(file)!r} is empty")
    return SecretStr(text)
