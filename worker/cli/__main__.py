"""`python -m worker.cli` is `again`, whatever is on the PATH."""

from worker.cli import main

main()
