"""The worker: all code that uses a socket, a table or a clock."""
