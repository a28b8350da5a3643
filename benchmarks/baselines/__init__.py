"""Other implementations of the same work, for comparison."""
