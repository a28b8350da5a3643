"""A shop that is beaten while it works; `make chaos`."""
