"""`python -m worker.cli` runs `again`, independent of the PATH."""

from worker.cli import main

main()
