"""Compare our records with the gateway's: scheduled runs, payment webhooks, findings, restores.

May import: every other business folder.
"""
