"""The payment gateway: the port, the HTTP client, and in `portone_v1` the only gateway that there is so far.

Uses the clock and the settings; the business uses the port alone.
"""
