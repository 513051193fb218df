"""Where providers' credentials come from, and what is shown in their place: tokens, signatures."""
