"""What a verb of the task API takes and returns."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import StringConstraints

from worker.renewals.enqueue import Publish
from worker.services import Services

Words = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb needs: the services, and the function that publishes charges to workers."""

    services: Services
    publish: Publish
    os_user: str | None = None  # the OS user of the command line; None in a task
