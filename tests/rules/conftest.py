"""Properties are run on the same examples each time, so that a failure is a fault and no chance."""

from hypothesis import settings

settings.register_profile("again", derandomize=True, deadline=None, max_examples=150)
settings.load_profile("again")
