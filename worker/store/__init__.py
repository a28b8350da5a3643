"""Seam 2: what we remember. Functions take an open connection; transactions open in the workflows."""
