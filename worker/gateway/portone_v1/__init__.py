"""PortOne's REST API V1 behind the port: its requests, its answers, its access token, its limits and texts.

Uses the port, the HTTP client and the masking of `worker.gateway`; only `worker.wiring` uses it.
"""
