"""What the operator sees of the mint on the page at `/operator`."""
