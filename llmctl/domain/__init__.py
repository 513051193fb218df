"""Values and decisions. Pure: the standard library only, no clock, no I/O."""
