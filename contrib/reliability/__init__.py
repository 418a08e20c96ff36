"""Attacks on the mint, and the page that says what they did: `python3 -m contrib.reliability`."""
