"""Measurements of the mint, and the page that shows them: `python3 -m contrib.bench`."""

PARTS = {"compare": "contrib.bench.compare", "async": "contrib.bench.pending", "growth": "contrib.bench.growth"}
"""What can be measured, and the module that does it, in the order of the page. Each has `run(options) -> dict`, whose
result is kept as JSON, and `render(part) -> str`, which makes Markdown of it."""
