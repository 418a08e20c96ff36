"""What libsecp256k1 alone needs for a request: the same calls as the ledger makes, and nothing around them."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable

from coincurve import PublicKey

from ledger import curve

REPEATS = 200
ROUNDS = 5


def measure() -> dict[str, float]:
    """CPU time in µs of one call of each kind, on one core: the median of several rounds."""
    secret = secrets.token_bytes(31).rjust(32, b"\1")
    point = PublicKey.from_valid_secret(secrets.token_bytes(31).rjust(32, b"\1"))
    encoded = point.format()
    messages = [secrets.token_hex(32).encode() for _ in range(REPEATS)]
    return {
        "decode a point": _us(lambda _: PublicKey(encoded)),
        "multiply a point": _us(lambda _: point.multiply(secret)),
        "multiply the generator": _us(lambda _: PublicKey.from_valid_secret(secret)),
        "encode a point": _us(lambda _: point.format()),
        "hash to the curve": _us(lambda n: curve.hash_to_point(messages[n])),
    }


def ms_of(costs: dict[str, float], inputs: int, outputs: int) -> float:
    """CPU time in ms of verifying inputs and signing outputs, each with its DLEQ proof.

    An input: hash its secret to `Y` (which decodes a point), compute `kY`, encode both. An output: decode `B_`, compute
    `C_ = kB_`, `rG` and `rB_`, encode `C_`, and `B_`, `C_`, `rG`, `rB_` for the hashes of NUT-12.
    """
    of_input = costs["hash to the curve"] + costs["multiply a point"] + 2 * costs["encode a point"]
    of_output = (
        costs["decode a point"]
        + 2 * costs["multiply a point"]
        + costs["multiply the generator"]
        + 5 * costs["encode a point"]
    )
    return (inputs * of_input + outputs * of_output) / 1000


def _us(call: Callable[[int], object]) -> float:
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time_ns()
        for number in range(REPEATS):
            call(number)
        rounds.append((time.thread_time_ns() - begun) / 1000 / REPEATS)
    return statistics.median(rounds)
