"""The two pages for people: one for the mint's users at `/`, one for its operator at `/operator`."""
