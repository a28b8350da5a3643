"""The crew: threads of one process that carry out the calls of envelopes, each call on one of them."""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("again.crew")
Job = Callable[[], object]


class Crew:
    """So many threads, and no line before them: a thread is taken first, and then given its job."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._free = threading.Semaphore(threads)
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._serve, name=f"crew-{number}", daemon=True).start()

    def take(self, most: int) -> int:
        """Wait for a free thread, and take as many more as are free, up to so many; each is to get a job."""
        self._free.acquire()
        taken = 1
        while taken < most and self._free.acquire(blocking=False):
            taken += 1
        return taken

    def give_back(self, many: int) -> None:
        """Let threads go that were taken and get no job."""
        self._free.release(many)

    def start(self, job: Job) -> None:
        """Give a thread that was taken its job; it is free again afterwards, whatever comes of the job."""
        self._jobs.put(job)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:  # one charge is one task: its row is found by the sweep, and the others go on
                log.exception("a charge of an envelope failed")
            finally:
                self._free.release()


class UnderWay:
    """Counts what has begun and is not over."""

    def __init__(self) -> None:
        self._many = 0
        self._change = threading.Condition()

    def one_more(self) -> None:
        """One begins."""
        with self._change:
            self._many += 1

    def one_less(self) -> None:
        """One is over."""
        with self._change:
            self._many -= 1
            if not self._many:
                self._change.notify_all()

    def wait(self) -> None:
        """Wait until nothing is under way."""
        with self._change:
            self._change.wait_for(lambda: not self._many)
