"""`again up`, `demo` and `clock`: a whole installation on one machine.

May import: `worker.cli.terminal`, `worker.embedded`, and what a command may import.
"""
