"""Every guard, taken away once: a proof that nobody would miss is no proof."""
