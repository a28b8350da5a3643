"""The file in which a running `again up` stores its environment, for commands started in the same folder.

The writer of this file decides where a command sends the account's key and secret. It is therefore read only while
the `again up` that wrote it runs, only if no other user can have written it, and only if the environment itself
names no installation.
"""

import fcntl
import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(".again")
NAME = "env"
PREFIX = "AGAIN_"
# With one of these variables the environment names an installation, and the file is not used.
NAMING = (
    "AGAIN_ENVIRONMENT", "AGAIN_DATABASE_URL", "AGAIN_BROKER_URL", "AGAIN_ACCOUNT", "AGAIN_ACCOUNTS_FILE",
    "AGAIN_PORTONE_URL", "AGAIN_PORTONE_KEY", "AGAIN_PORTONE_SECRET", "AGAIN_PORTONE_SECRET_FILE",
    "AGAIN_PORTONE_TIER", "AGAIN_WEBHOOK_URL", "AGAIN_WEBHOOK_SECRET",
)  # fmt: skip
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
OTHERS_USE = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Found:
    """The values of the file; empty, with the reason in `why_not`, for a file that is not used."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    why_not: str | None = None


class _NotTrusted(Exception):
    """The file is not used; the message gives the reason."""


def read(environment: Mapping[str, str], folder: Path = FOLDER, uid: int | None = None) -> Found:
    """Read the file of a running `again up` in this folder, unless the environment names an installation."""
    file = folder / NAME
    named = sorted({name.upper() for name, value in environment.items() if value} & set(NAMING))
    if not os.path.lexists(file):
        return Found()
    if named:
        return Found(why_not=f"{file} is not used, because {named[0]} is set: set the others too, or unset it")
    try:
        text = _text(folder, os.geteuid() if uid is None else uid)
    except _NotTrusted as error:
        return Found(why_not=f"{file} is not used: {error}")
    try:
        lines = (line.partition("=") for line in shlex.split(text))
        return Found({name: value for name, _, value in lines if name.startswith(PREFIX)})
    except ValueError as error:
        return Found(why_not=f"{file} is not used: it cannot be read ({error})")


def _text(folder: Path, uid: int) -> str:
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _NotTrusted(f"{folder} cannot be opened as a folder ({error.strerror})") from None
    try:
        found = os.fstat(place)
        if found.st_uid != uid:
            raise _NotTrusted(f"{folder} belongs to user {found.st_uid}, and you are user {uid}")
        if found.st_mode & OTHERS_WRITE:
            raise _NotTrusted(f"others may write to {folder}; run `chmod go-w {folder}`")
        return _text_in(place, folder, uid)
    finally:
        os.close(place)


def _text_in(place: int, folder: Path, uid: int) -> str:
    try:
        # O_NONBLOCK: opening a pipe would wait for its writer.
        descriptor = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
    except OSError as error:
        raise _NotTrusted(f"it cannot be opened as a file ({error.strerror})") from None
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _NotTrusted("it is no regular file")
        if found.st_uid != uid:
            raise _NotTrusted(f"it belongs to user {found.st_uid}, and you are user {uid}")
        if found.st_mode & OTHERS_USE:
            raise _NotTrusted(f"others may use it: its mode is {stat.S_IMODE(found.st_mode):04o}, not 0600")
        if not _is_locked(descriptor):
            raise _NotTrusted(f"no `again up` runs with the data in {folder}")
        return file.read()


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


class Written:
    """The file of this `again up`: locked while it runs, removed at its end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Write the file, readable by this user only; an existing file is replaced."""
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~OTHERS_WRITE)
        self._file, new = folder / NAME, folder / f"{NAME}.new"
        new.unlink(missing_ok=True)
        self._descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Quoted, because a shell may read the file too.
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
        os.write(self._descriptor, "".join(lines).encode())
        new.replace(self._file)

    def remove(self) -> None:
        """Remove the file and release its lock."""
        self._file.unlink(missing_ok=True)
        os.close(self._descriptor)
