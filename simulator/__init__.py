"""A stand-in for PortOne V1 over real HTTP, with its own ledger. It contains no code for particular clients."""
