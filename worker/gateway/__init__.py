"""Seam 1: who moves the money."""
