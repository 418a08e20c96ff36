"""SIG_ALL (NUT-11): one signature over the whole swap or melt, and what it covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ledger.errors import Code
from tests.ledger.conditions.helpers import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    MALLORY,
    RIGHT,
    SIG_ALL,
    Spending,
    Way,
    htlc,
    lock,
    locktime,
    malformed,
    melt_of,
    p2pk,
    pubkeys,
    refund,
    refusal,
    sig_all_message,
    signed,
    swap_of,
    unmet,
    witness,
)
from tests.ledger.helpers import NOW, Mint, Wallet, messages, refused


def sig_all(spending: Spending, *keys: object, preimage: object = None) -> str:
    """The witness of the first input."""
    return witness(*(key.sign(spending.message) for key in keys), preimage=preimage)  # type: ignore[attr-defined]


# --- one signature for all --------------------------------------------------------------------------------------------


def test_one_signature_in_the_first_input_is_enough(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, *(p2pk(ALICE, SIG_ALL) for _ in range(3))))
    spending.run(sig_all(spending, ALICE))


def test_only_the_first_input_may_have_it(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, *(p2pk(ALICE, SIG_ALL) for _ in range(3))))
    good = sig_all(spending, ALICE)
    for texts in ([None, good, good], [witness(), good], [witness("00" * 64), None, good]):
        with unmet(mint):
            spending.run(*texts)
    assert "no witness" in refusal(spending, None, good).detail
    assert "signatures not provided" in refusal(spending, None, good).detail
    spending.run(good, witness("junk"), "junk")


def test_signatures_on_the_secrets_are_of_no_use(mint: Mint, alice: Wallet, way: Way) -> None:
    secrets = [p2pk(ALICE, SIG_ALL) for _ in range(2)]
    spending = way(mint, alice, lock(mint, alice, *secrets))
    with unmet(mint):
        spending.run(*(signed(secret, ALICE) for secret in secrets))


def test_without_the_flag_a_signature_on_the_whole_is_of_no_use(mint: Mint, alice: Wallet, way: Way) -> None:
    for tags in ([], [["sigflag", "SIG_INPUTS"]]):
        spending = way(mint, alice, lock(mint, alice, p2pk(ALICE, *tags)))
        with unmet(mint):
            spending.run(sig_all(spending, ALICE))


def test_several_keys_sign_the_same_message(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = (pubkeys(BOB, CAROL), ["n_sigs", "2"], SIG_ALL)
    spending = way(mint, alice, lock(mint, alice, *(p2pk(ALICE, *tags) for _ in range(2))))
    for signers in ([BOB], [BOB, MALLORY], [BOB, BOB]):
        with unmet(mint):
            spending.run(sig_all(spending, *signers))
    extra = [CAROL.sign("x"), "zz", CAROL.sign(spending.message), CAROL.sign(spending.message, b"again")]
    spending.run(witness(*extra, BOB.sign(spending.message), *extra))


def test_pathways_are_the_same_as_with_signatures_on_inputs(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = (pubkeys(BOB), ["n_sigs", "2"], locktime(NOW), refund(DAVE, CAROL), ["n_sigs_refund", "2"], SIG_ALL)

    def pair() -> Spending:
        return way(mint, alice, lock(mint, alice, *(p2pk(ALICE, *tags) for _ in range(2))))

    first, second = pair(), pair()
    with unmet(mint):
        first.run(sig_all(first, DAVE, CAROL))
    mint.clock.advance(1)
    for signers in ([ALICE, DAVE], [DAVE], [BOB]):
        with unmet(mint):
            first.run(sig_all(first, *signers))
    first.run(sig_all(first, DAVE, CAROL))
    second.run(sig_all(second, BOB, ALICE))


def test_after_the_locktime_without_refund_keys_no_witness_is_needed(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, *(p2pk(ALICE, locktime(NOW), SIG_ALL) for _ in range(2))))
    with unmet(mint):
        spending.run()
    mint.clock.advance(1)
    spending.run()


def test_an_htlc_shows_its_preimage_in_the_first_input(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = (pubkeys(ALICE), locktime(NOW), refund(DAVE), SIG_ALL)
    spending, late = (way(mint, alice, lock(mint, alice, *(htlc(*tags) for _ in range(2)))) for _ in range(2))
    only_second = (sig_all(spending, ALICE), witness(preimage=RIGHT))
    for texts in ((sig_all(spending, ALICE),), only_second, (witness(preimage=RIGHT),)):
        with unmet(mint):
            spending.run(*texts)
    with unmet(mint):
        spending.run(sig_all(spending, DAVE, preimage=RIGHT))
    spending.run(sig_all(spending, ALICE, preimage=RIGHT))
    mint.clock.advance(1)
    late.run(sig_all(late, DAVE))


# --- what is covered --------------------------------------------------------------------------------------------------

Change = Callable[[Spending], Spending]
CHANGES: dict[str, Change] = {
    "outputs in another order": lambda s: s.with_outputs(s.outputs[::-1]),
    "amounts exchanged": lambda s: s.with_outputs(
        a.model_copy(update={"amount": b.amount}) for a, b in zip(s.outputs, s.outputs[::-1], strict=True)
    ),
    "the text of a point": lambda s: s.with_outputs(
        [s.outputs[0].model_copy(update={"B_": s.outputs[0].B_.upper()}), *s.outputs[1:]]
    ),
    "the text of a C": lambda s: s.with_proofs(
        [s.proofs[0].model_copy(update={"C": s.proofs[0].C.upper()}), *s.proofs[1:]]
    ),
    "inputs in another order": lambda s: s.with_proofs(s.proofs[::-1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_transaction_that_was_changed_after_signing_is_refused(
    mint: Mint, alice: Wallet, way: Way, change: Change
) -> None:
    proofs = lock(mint, alice, *(p2pk(ALICE, SIG_ALL) for _ in range(2)))
    spending = way(mint, alice, [*proofs[:1], *proofs[1:]])
    outputs = messages(alice.draw_all(mint.keyset(), [12, 4] if spending.quote else [8, 4, 4]))
    if spending.quote is None:
        spending = spending.with_outputs(outputs)
    altered = change(spending)
    assert altered.message != spending.message
    with unmet(mint):
        altered.run(sig_all(spending, ALICE))
    altered.run(sig_all(altered, ALICE))


def test_another_output_is_refused(mint: Mint, alice: Wallet, bob: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL)))
    thief = messages(bob.draw_all(mint.keyset(), [output.amount for output in spending.outputs]))
    with unmet(mint):
        spending.with_outputs(thief).run(sig_all(spending, ALICE))


def test_an_input_that_was_added_or_left_out_is_refused(mint: Mint, alice: Wallet) -> None:
    proofs = lock(mint, alice, *(p2pk(ALICE, SIG_ALL) for _ in range(3)))
    two, three = swap_of(mint, alice, proofs[:2]), swap_of(mint, alice, proofs)
    with unmet(mint):
        three.run(sig_all(two, ALICE))
    with unmet(mint):
        two.run(sig_all(three, ALICE))


def test_a_melt_covers_its_quote(mint: Mint, alice: Wallet) -> None:
    spending = melt_of(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL)))
    another = replace(spending, quote=mint.melt_quote(5, 3).quote)
    with unmet(mint):
        another.run(sig_all(spending, ALICE))
    without_quote = sig_all_message(spending.proofs, spending.outputs)
    with unmet(mint):
        spending.run(witness(ALICE.sign(without_quote)))
    spending.run(sig_all(spending, ALICE))


@pytest.mark.parametrize("sent", [0, 1, 7, 2**63])
def test_a_melt_covers_the_amounts_of_its_blank_outputs_as_sent(mint: Mint, alice: Wallet, sent: int) -> None:
    """Though they mean nothing, and are replaced by the amounts of the change."""
    spending = melt_of(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL)))
    blanks = [output.model_copy(update={"amount": sent}) for output in spending.outputs]
    others = [output.model_copy(update={"amount": sent ^ 3}) for output in spending.outputs]
    spending = spending.with_outputs(blanks)
    for other in ([], others, blanks[:1]):
        with unmet(mint):
            spending.with_outputs(other).run(sig_all(spending, ALICE))
    spending.run(sig_all(spending, ALICE))


def test_a_melt_without_blank_outputs_covers_inputs_and_quote(mint: Mint, alice: Wallet) -> None:
    spending = melt_of(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL))).with_outputs([])
    spending.run(sig_all(spending, ALICE))


def test_texts_are_covered_as_sent_and_not_as_stored(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, "".join((" ", p2pk(ALICE, SIG_ALL), "\n"))))
    outputs = [output.model_copy(update={"B_": output.B_.upper()}) for output in spending.outputs]
    proofs = [proof.model_copy(update={"C": proof.C.upper()}) for proof in spending.proofs]
    spending = spending.with_outputs(outputs).with_proofs(proofs)
    spending.run(sig_all(spending, ALICE))


# --- all inputs must be alike -----------------------------------------------------------------------------------------

OTHERS = {
    "plain": "plain",
    "another kind that is no condition": p2pk(ALICE, SIG_ALL).replace("P2PK", "P2XX"),
    "SIG_INPUTS": p2pk(ALICE),
    "SIG_INPUTS by name": p2pk(ALICE, ["sigflag", "SIG_INPUTS"]),
    "another key": p2pk(BOB, SIG_ALL),
    "the twin of the key": p2pk(ALICE.twin, SIG_ALL),
    "a further tag": p2pk(ALICE, SIG_ALL, ["locktime", "99999999999"]),
    "an unknown tag": p2pk(ALICE, SIG_ALL, ["memo", "x"]),
    "an HTLC": htlc(pubkeys(ALICE), SIG_ALL),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=list(OTHERS))
@pytest.mark.parametrize("first", [True, False], ids=["other first", "other last"])
def test_sig_all_with_another_condition_is_refused_though_all_are_signed(
    mint: Mint, alice: Wallet, way: Way, other: str, first: bool
) -> None:
    secrets = [other, p2pk(ALICE, SIG_ALL)] if first else [p2pk(ALICE, SIG_ALL), p2pk(ALICE, SIG_ALL), other]
    spending = way(mint, alice, lock(mint, alice, *secrets))
    text = witness(
        *(key.sign(m) for key in (ALICE, BOB) for m in (spending.message, *map(str.encode, secrets))), preimage=RIGHT
    )
    with malformed(mint):
        spending.run(*[text] * len(secrets))


def test_tags_in_another_order_are_other_tags(mint: Mint, alice: Wallet, way: Way) -> None:
    tags = [SIG_ALL, pubkeys(BOB)]
    spending = way(mint, alice, lock(mint, alice, p2pk(ALICE, *tags), p2pk(ALICE, *tags[::-1])))
    with malformed(mint):
        spending.run(sig_all(spending, ALICE))


def test_nonces_and_the_way_the_json_is_written_may_differ(mint: Mint, alice: Wallet, way: Way) -> None:
    compact, spaced = p2pk(ALICE, SIG_ALL), p2pk(ALICE, SIG_ALL).replace(",", " ,\n ")
    spending = way(mint, alice, lock(mint, alice, compact, spaced))
    spending.run(sig_all(spending, ALICE))


def test_a_malformed_input_beside_it_is_refused_as_malformed(mint: Mint, alice: Wallet, way: Way) -> None:
    spending = way(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL), p2pk(ALICE, SIG_ALL, ["n_sigs", "0"])))
    with malformed(mint):
        spending.run(sig_all(spending, ALICE))


def test_a_swap_that_does_not_balance_is_refused_as_that(mint: Mint, alice: Wallet) -> None:
    spending = swap_of(mint, alice, lock(mint, alice, p2pk(ALICE, SIG_ALL)))
    with refused(mint, Code.NOT_BALANCED):
        spending.with_outputs(messages(alice.draw_all(mint.keyset(), [4]))).run(None)
