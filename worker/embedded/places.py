"""Where data and sockets may lie so that an unprivileged user can reach them; no folder above is ever opened."""

import hashlib
import os
import pwd
import tempfile
from pathlib import Path

from worker.embedded.errors import EmbeddedError
from worker.embedded.supervised import Owner

SHARED = Path("/var/tmp")  # noqa: S108 # outlives a reboot, and every user can reach it
POINTER = "elsewhere"  # the file that names the folder where the data lie instead


def unprivileged_owner() -> Owner:
    """The user that PostgreSQL runs as: `nobody` when this process is root, because PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return Owner()
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return Owner(65534, 65534)
    return Owner(nobody.pw_uid, nobody.pw_gid)


def is_reachable(path: Path, owner: Owner) -> bool:
    """Whether this user can get to a path: every folder above it exists and may be walked through."""
    return owner.uid is None or all(_may_walk(folder, owner) for folder in path.resolve().parents)


def _may_walk(folder: Path, owner: Owner) -> bool:
    state = folder.stat()
    if state.st_uid == owner.uid:
        return bool(state.st_mode & 0o100)
    if state.st_gid == owner.gid:
        return bool(state.st_mode & 0o010)
    return bool(state.st_mode & 0o001)


def reachable_home(wanted: Path, owner: Owner) -> Path:
    """The wanted folder, or, where the owner cannot reach it, one in /var/tmp that the wanted one points to."""
    make_folder(wanted, Owner(), walked_by=owner)
    pointer = wanted / POINTER
    if pointer.exists():  # once there, the data stay there
        home = Path(pointer.read_text().strip())
    elif is_reachable(wanted / "data", owner):
        return wanted
    elif (wanted / "data").exists():
        raise EmbeddedError(
            f"{wanted / 'data'} holds data, but PostgreSQL's user (uid {owner.uid}) can no longer reach it: "
            "give the folders above it back their o+x, or move it, or take another folder with --data"
        )
    else:
        home = SHARED / f"again-data-{digest_of(str(wanted))}"
        pointer.write_text(f"{home}\n")
    make_folder(home, Owner(), walked_by=owner)
    return home


def make_folder(folder: Path, owner: Owner, *, walked_by: Owner | None = None) -> None:
    """Make a folder that its owner alone sees into, and that another user may walk through at most."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    state = folder.lstat()
    mine = os.geteuid()
    if folder.is_symlink() or state.st_uid not in {mine, owner.uid, walked_by.uid if walked_by else mine}:
        raise EmbeddedError(
            f"{folder} is a link, or belongs to user {state.st_uid}; remove it, or take another --data"
        )
    uid = mine if owner.uid is None else owner.uid
    if state.st_uid != uid:
        os.chown(folder, uid, -1 if owner.gid is None else owner.gid)
    folder.chmod(0o711 if walked_by is not None and walked_by.uid is not None else 0o700)


def make_socket_folder(owner: Owner) -> Path:
    """A new, short-named folder in the system's temporary folder for a socket."""
    shared = Path(tempfile.gettempdir())
    if not is_reachable(shared / "socket", owner):
        shared = SHARED
    folder = Path(tempfile.mkdtemp(prefix="again-socket-", dir=shared))
    make_folder(folder, owner)
    return folder


def digest_of(words: str) -> str:
    """A short name for something long."""
    return hashlib.blake2b(words.encode(errors="surrogateescape"), digest_size=8).hexdigest()
