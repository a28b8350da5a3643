"""The charge protocol on a simulated clock: real workflows as simulated processes, stopped and killed anywhere."""
