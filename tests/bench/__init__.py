"""`make bench`: the gateway beside a bare pass-through, on the same core, in the same run."""
