"""What libsecp256k1 alone needs for a request: the calls that the ledger makes of it, and nothing around them."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable

from coincurve import PublicKey
from coincurve._libsecp256k1 import ffi, lib  # type: ignore[import-not-found]
from coincurve.context import GLOBAL_CONTEXT

from ledger.curve import POINT_BYTES, SCALAR_BYTES

REPEATS = 200
ROUNDS = 5


def measure() -> dict[str, float]:
    """CPU time in µs of one call of each kind, on one core: the median of several rounds.

    Past coincurve's classes, so that their time counts as the mint's; cffi's is in it, some 0.2 µs."""
    context, scalar = GLOBAL_CONTEXT.ctx, secrets.token_bytes(31).rjust(SCALAR_BYTES, b"\1")
    encoded = PublicKey.from_valid_secret(secrets.token_bytes(31).rjust(SCALAR_BYTES, b"\1")).format()
    point, output = ffi.new("secp256k1_pubkey *"), ffi.new("unsigned char[65]")
    length = ffi.new("size_t *", POINT_BYTES)
    lib.secp256k1_ec_pubkey_parse(context, point, encoded, POINT_BYTES)
    form = lib.SECP256K1_EC_COMPRESSED
    return {
        "encode a point": _us(lambda _: lib.secp256k1_ec_pubkey_serialize(context, output, length, point, form)),
        "decode a point": _us(lambda _: lib.secp256k1_ec_pubkey_parse(context, point, encoded, POINT_BYTES)),
        "multiply a point": _us(lambda _: lib.secp256k1_ec_pubkey_tweak_mul(context, point, scalar)),
        "multiply the generator": _us(lambda _: lib.secp256k1_ec_pubkey_create(context, point, scalar)),
    }


def ms_of(costs: dict[str, float], inputs: int, outputs: int) -> float:
    """CPU time in ms of verifying inputs and signing outputs, each with its DLEQ proof.

    An input: hash its secret to `Y` (two points have to be decoded, on average: every other x is on the curve), compute
    `kY`, encode both. An output: decode `B_`, compute `C_ = kB_`, `rG` and `rB_`, encode `C_`, and `B_`, `C_`, `rG`,
    `rB_` for the hashes of NUT-12.
    """
    of_input = 2 * costs["decode a point"] + costs["multiply a point"] + 2 * costs["encode a point"]
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
