"""Every `lightning-cli cashu-…` command: its name, its parameters in their order, what carries it out.

What `lightning-cli help` says of a command is the docstring of the function that carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from plugin.commands import backups, books, keysets, melts, policy, qr, quotes, status
from plugin.commands.parameters import Work


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `for_people`: its answer can be had as text as well, by one more parameter, `format`."""

    name: str
    parameters: tuple[str, ...]
    work: Work
    for_people: bool = False


COMMANDS = (
    Command("cashu-info", (), status.info, for_people=True),
    Command("cashu-balance", (), books.balance, for_people=True),
    Command("cashu-audit", (), books.audit_books, for_people=True),
    Command("cashu-quotes", ("kind", "state", "method", "limit", "before"), quotes.list_quotes, for_people=True),
    Command("cashu-pending", ("handle",), melts.pending, for_people=True),
    Command("cashu-resolve", ("handle", "outcome", "force", "reason", "preimage"), melts.resolve),
    Command("cashu-rotate", ("unit", "input_fee_ppk", "final_expiry"), keysets.rotate),
    Command("cashu-pause", ("what",), policy.pause),
    Command("cashu-unpause", ("what",), policy.unpause),
    Command("cashu-motd", ("message",), policy.motd),
    Command("cashu-qr", ("text",), qr.draw),
    Command("cashu-backup", ("path",), backups.make),
    Command("cashu-restore-check", ("path",), backups.check),
)
