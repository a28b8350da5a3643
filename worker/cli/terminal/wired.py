"""The services of this installation."""

from worker.services import Services


def services() -> Services:
    """Connect as the settings say. Commands that use no database do not import the connections."""
    from worker import wiring

    return wiring.services()
