"""The shop's own address, to which events are sent: a port, and a signed HTTP request behind it."""
