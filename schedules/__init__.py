"""The rules: when a charge is due, how much it is, and what comes next. No I/O, no clock, no framework."""
