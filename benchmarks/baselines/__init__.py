"""What others do with the same work: the figures that ours are put beside."""
