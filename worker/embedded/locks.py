"""One folder for one owner at a time, until the last server that works in it is gone."""

import fcntl
import os
import time
from pathlib import Path

from worker.embedded.errors import EmbeddedError

STOPPING_SECONDS = 30.0  # longer than servers take to stop whose parent was killed


class FolderLock:
    """A flock on a file in a folder. Supervisors inherit it: the lock lasts as long as their servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.descriptor: int | None = None

    def take(self) -> None:
        """Take it; refused while its owner lives, waited for while a killed owner's servers stop."""
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + STOPPING_SECONDS
        while not _try(descriptor):
            owner = _owner(descriptor)
            if _is_running(owner) or time.monotonic() > deadline:
                os.close(descriptor)
                raise EmbeddedError(
                    f"{self._folder} is in use by another `again` (process {owner}); "
                    "stop that one, or take another folder with --data"
                )
            time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self.descriptor = descriptor

    def release(self) -> None:
        """Give it back; harmless when it is not held."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> int:
    told = os.pread(descriptor, 20, 0).strip()
    return int(told) if told.isdigit() else 0  # 0 until the new owner has written its process id


def _is_running(pid: int) -> bool:
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
