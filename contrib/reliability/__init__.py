"""Attacks on the mint, and the page that says what they did: `python3 -m contrib.reliability`."""

ATTACKS = ("crashes", "histories", "races", "fuzz", "schema", "connections", "money")
"""The modules of this package that attack, in the order of the page; each has `run(budget_s) -> Report`."""
