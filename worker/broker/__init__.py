"""Messages of the broker: which are accepted, how they are consumed, and what follows an outage.

May import: each module has its own place in the contracts; see pyproject.toml.
"""
