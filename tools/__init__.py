"""Programs for the developers of Again; nothing that is installed imports them."""
