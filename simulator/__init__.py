"""A stand-in for PortOne V1 over real HTTP, with a ledger of its own; it knows nothing of who talks to it."""
