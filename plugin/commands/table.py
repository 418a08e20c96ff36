"""Every `lightning-cli cashu-…` command: its name, its parameters in their order, what carries it out.

What `lightning-cli help` says of a command is the docstring of the function that carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugin.commands import backups, books, keysets, melts, policy, qr, quotes, status
from plugin.commands.parameters import Work


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `reads_only`: it changes neither the ledger nor the node, and creates no file."""

    name: str
    parameters: tuple[str, ...]
    work: Work
    reads_only: bool = False


COMMANDS = (
    Command("cashu-info", (), status.info, reads_only=True),
    Command("cashu-balance", (), books.balance, reads_only=True),
    Command("cashu-audit", (), books.audit_books),
    Command("cashu-quotes", ("kind", "state", "method", "limit", "before"), quotes.list_quotes, reads_only=True),
    Command("cashu-pending", ("handle",), melts.pending, reads_only=True),
    Command("cashu-resolve", ("handle", "outcome", "force", "reason", "preimage"), melts.resolve),
    Command("cashu-rotate", ("unit", "input_fee_ppk", "final_expiry"), keysets.rotate),
    Command("cashu-pause", ("what",), policy.pause),
    Command("cashu-unpause", ("what",), policy.unpause),
    Command("cashu-motd", ("message",), policy.motd),
    Command("cashu-qr", ("text",), qr.draw, reads_only=True),
    Command("cashu-backup", ("path",), backups.make),
    Command("cashu-restore-check", ("path",), backups.check, reads_only=True),
)
