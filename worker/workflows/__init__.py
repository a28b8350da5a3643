"""One verb for each file; transactions open and close here and nowhere else."""
