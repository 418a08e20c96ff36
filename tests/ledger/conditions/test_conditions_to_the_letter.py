"""Generated transactions get the verdict that a slow, literal reading of the NUTs gives them (`letter.py`)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import conditions
from ledger.errors import Code, LedgerError
from ledger.models import BlindedMessage, Proof
from tests.ledger.conditions import letter
from tests.ledger.conditions.helpers import Key, sig_all_message
from tests.ledger.conditions.letter import Verdict
from tests.ledger.helpers import NO_POINT

EXAMPLES = 1500
NOW = 1_000_000
KEYS = [Key(3000 + number) for number in range(5)]
STRANGER = Key(4000)
RIGHT, WRONG = b"\x11" * 32, b"\x12" * 32
HASHLOCK = hashlib.sha256(RIGHT).hexdigest()
KEYSET = "01" + "00" * 32
POINTS = [key.hex for key in (Key(5000 + number) for number in range(4))]
VERDICTS = {None: Verdict.SPENDABLE, Code.SIGNATURE_INVALID: Verdict.UNSPENDABLE, Code.PROOF_INVALID: Verdict.MALFORMED}

BAD_KINDS = ["p2pk", "P2XX", "HTLC ", ""]
BAD_KEYS = [NO_POINT, KEYS[0].hex[2:], "04" + KEYS[0].hex[2:], KEYS[1].hex + "0", "key", "zz" * 33]
BAD_HASHES = [HASHLOCK[:-1], "zz" * 32, POINTS[0]]
BAD_DATA: list[Any] = [None, 5, "", [POINTS[0]]]
BAD_COUNTS = [["0"], ["-1"], ["two"], ["1.5"], ["9"], ["1e0"], [" 1"], [], ["1", "1"]]
BAD_TIMES = [["soon"], ["-5"], ["1.5"], ["0x10"], ["1e3"], [], [str(NOW - 1), "1"]]
BAD_FLAGS = [["SIG_NONE"], [], ["SIG_ALL"] * 2, ["sig_all"]]
BAD_TAGS: list[Any] = [[], ["memo", 1], ["memo", ""], [""], "memo", None, {"memo": "x"}, ["memo", ["x"]], [7]]
BAD_LISTS: list[Any] = [{}, "tags", 5]
BAD_NONCES: list[Any] = [5, None, ["x"]]
BAD_WITNESSES = [None, "", "null", "[]", "{}", "junk", "{", '"x"', '{"signatures": "00"}', '{"signatures": {}}', "5"]
BAD_SIGNATURES: list[Any] = ["", "00" * 64, "ff" * 64, "zz" * 64, "00" * 63, "00" * 65, 7, None, [], {}]
BAD_PREIMAGES: list[Any] = [WRONG.hex(), RIGHT.hex()[:-1], RIGHT.hex() + "00", RIGHT.hex()[2:], "", "zz", 5, None, []]

T = TypeVar("T")


@dataclass(frozen=True)
class Lock:
    """A condition as it is drawn: what stands in the secret, but for nonces and the way the JSON is written."""

    kind: str
    data: Any
    tags: Any


@dataclass(frozen=True)
class Transaction:
    """What is judged."""

    inputs: list[letter.Input]
    outputs: list[letter.Output]
    quote_id: str


class Author:
    """Draws the parts of a transaction. A tidy one breaks no rule of form; another does so here and there, since a
    secret has many places to be wrong in, and one is enough to make it malformed."""

    def __init__(self, draw: st.DrawFn, tidy: bool) -> None:
        self._draw = draw
        self._tidy = tidy

    def pick(self, values: list[T]) -> T:
        """One of these."""
        return self._draw(st.sampled_from(values))

    def chance(self, one_in: int) -> bool:
        """True one time in so many."""
        return self._draw(st.integers(1, one_in)) == one_in

    def wrong(self, one_in: int = 12) -> bool:
        """Whether to write something malformed here."""
        return not self._tidy and self.chance(one_in)

    # secrets

    def key(self) -> str:
        """Any form of one of a few keys."""
        if self.wrong(20):
            return self.pick(BAD_KEYS)
        key = self.pick(KEYS)
        return self.pick([key.hex, key.hex, key.twin, key.hex.upper()])

    def keys(self, most: int, but: str) -> list[str]:
        """The keys of a pathway (beside `but`): each once, if that is well formed."""
        drawn = [self.key() for _ in range(self._draw(st.integers(0, most)))]
        if self.wrong():
            return drawn
        distinct = {key[2:].lower(): key for key in drawn}
        distinct.pop(but[2:].lower(), None)
        return list(distinct.values())

    def count(self, keys: int) -> list[str]:
        """A threshold for so many keys."""
        if self.wrong() or not keys:
            return self.pick(BAD_COUNTS)
        return [str(self._draw(st.integers(1, keys)))]

    def lock(self) -> Lock:
        """A condition."""
        kind = self.pick(["P2PK", "HTLC"])
        data = self.key() if kind == "P2PK" else self.pick([HASHLOCK, HASHLOCK, HASHLOCK.upper()])
        tags = self.tags(data if kind == "P2PK" else None)
        if self.wrong(20):
            kind = self.pick(BAD_KINDS)
        if self.wrong(20):
            data = self.pick([*BAD_HASHES, *BAD_DATA])
        if self.wrong(40):
            return Lock(kind, data, self.pick(BAD_LISTS))
        return Lock(kind, data, self._draw(st.permutations(tags)))

    def tags(self, own: str | None) -> list[Any]:
        """The tags; `own` is the key in `data`, if there is one."""
        tags: list[Any] = []
        main = 0 if own is None else 1
        if not self.chance(3):
            further = self.keys(3, but=own or "")
            tags.append(["pubkeys", *further])
            main += len(further)
        if (main or not self._tidy) and not self.chance(3):
            tags.append(["n_sigs", *self.count(main)])
        if not self.chance(3):
            near = [[str(NOW + offset)] for offset in (-2, -1, -1, -1, 0, 1)]
            tags.append(["locktime", *self.pick([*near, ["0"], ["9" * 19], self.pick(BAD_TIMES)])])
        if not self.chance(3):
            refunds = self.keys(3, but="")
            tags.append(["refund", *refunds])
            if (refunds or not self._tidy) and self.chance(2):
                tags.append(["n_sigs_refund", *self.count(len(refunds))])
        if self.chance(2):
            tags.append(
                ["sigflag", *(self.pick(BAD_FLAGS) if self.wrong() else self.pick([["SIG_ALL"], ["SIG_INPUTS"]]))]
            )
        if self.chance(4):
            tags.extend([["memo", "x"]] * self.pick([1, 2]))
        if self.wrong(20) and tags:
            tags.append(self.pick(tags))
        if self.wrong(20):
            tags.append(self.pick(BAD_TAGS))
        return tags

    def secret(self, lock: Lock) -> str:
        """A secret with this lock, in any writing; now and then not quite NUT-10."""
        nonce = (
            self.pick(BAD_NONCES) if self.wrong(40) else self.pick(["", "1", "\u20bf", str(self._draw(st.integers(0)))])
        )
        body = {"nonce": nonce, "data": lock.data, "tags": lock.tags}
        if lock.tags == [] and self.chance(2):
            del body["tags"]
        if self.wrong(40):
            body.pop(self.pick(["nonce", "data", "tags"]), None)
        content: Any = [lock.kind, body]
        if self.wrong(40):
            content = self.pick([[lock.kind], [lock.kind, body, 1], [lock.kind, [body]], {lock.kind: body}, "x", []])
        writings: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]
        return json.dumps(content, **self.pick(writings))

    # witnesses

    def witness(self, message: bytes, others: list[bytes]) -> str | None:
        """Signatures of some of the keys, mostly on `message`, with much else around them; or all of them."""
        if self.chance(4):
            return json.dumps({"preimage": RIGHT.hex(), "signatures": [key.sign(message) for key in KEYS]})
        if self.chance(12):
            return self.pick(BAD_WITNESSES)
        signers = self._draw(st.permutations([*KEYS, STRANGER]))[: self.pick([0, 1, 1, 1, 2, 2, 2, 3, 4, 6])]
        signatures: list[Any] = []
        for key in signers:
            signed = self.pick(others) if self.chance(12) else message
            signature = key.sign(signed)
            signatures.append(signature.upper() if self.chance(12) else signature)
        if signers and self.chance(3):
            signatures.append(self.pick([signatures[0], signatures[0].upper(), signers[0].sign(message, b"another")]))
        if self.chance(3):
            signatures.insert(0, self.pick(BAD_SIGNATURES))
        content: dict[str, Any] = {"signatures": signatures}
        if not self.chance(4):
            right = [RIGHT.hex(), RIGHT.hex(), RIGHT.hex().upper()]
            content["preimage"] = self.pick(BAD_PREIMAGES) if self.chance(3) else self.pick(right)
        if self.chance(12):
            content.pop(self.pick(["signatures", "preimage"]), None)
        return json.dumps(content)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    """One to four inputs, mostly with one lock; outputs and a quote id, as of a swap or a melt."""
    author = Author(draw, tidy=draw(st.integers(0, 2)) > 0)
    first = author.lock()
    chosen = [first]
    for _ in range(draw(st.integers(0, 2))):
        chosen.append(author.lock() if author.chance(4) else first)
    texts = [author.secret(lock) for lock in chosen]
    if author.chance(8):
        texts.append("plain")
    points = [*POINTS, POINTS[0].upper()]
    amounts = [0, 1, 2, 1024, 2**63]
    outputs = [letter.Output(author.pick(amounts), author.pick(points)) for _ in range(draw(st.integers(0, 2)))]
    quote_id = author.pick(["", "quote-id"])
    inputs = [letter.Input(text, author.pick(points), None) for text in texts]
    whole = sig_all_message(*wire(inputs, outputs), quote_id)
    signs_all = any('"SIG_ALL"' in text for text in texts)
    for each in inputs:
        own = each.secret.encode()
        others = [whole, own, texts[0].encode(), sig_all_message(*wire(inputs[:1], outputs), "quote-id")]
        each.witness = author.witness(whole if signs_all else own, others)
    return Transaction(inputs, outputs, quote_id)


def wire(inputs: list[letter.Input], outputs: list[letter.Output]) -> tuple[list[Proof], list[BlindedMessage]]:
    """As the ledger takes it."""
    proofs = [Proof(amount=1, id=KEYSET, secret=each.secret, C=each.C, witness=each.witness) for each in inputs]
    return proofs, [BlindedMessage(amount=output.amount, id=KEYSET, B_=output.B_) for output in outputs]


def mints_verdict(transaction: Transaction) -> Verdict:
    """What the ledger says of it. Every other error is a failure of the test."""
    proofs, outputs = wire(transaction.inputs, transaction.outputs)
    try:
        conditions.require_met(proofs, outputs, NOW, transaction.quote_id)
    except LedgerError as error:
        return VERDICTS[error.code]
    return VERDICTS[None]


def sorts(transaction: Transaction, verdict: Verdict) -> set[str]:
    """What sort of example it is."""
    found = {verdict.name}
    secrets = [] if verdict is Verdict.MALFORMED else [letter.read_secret(each.secret) for each in transaction.inputs]
    for secret in secrets:
        if secret is None:
            found.add("no condition")
            continue
        kind = secret["kind"]
        found.add(f"{kind} {letter.sigflag(secret)} {verdict.name}")
        if letter.has_expired(secret, NOW):
            found.add(f"{kind} expired {verdict.name}")
        if letter.values(secret, "n_sigs") not in (None, ["1"]):
            found.add(f"{kind} of several {verdict.name}")
        if len(transaction.inputs) > 1:
            found.add(f"{kind} with others {verdict.name}")
    return found


SORTS = {verdict.name for verdict in Verdict} | {"no condition"}
for _kind in ("P2PK", "HTLC"):
    for _sort in ("SIG_INPUTS", "SIG_ALL", "expired", "of several", "with others"):
        SORTS |= {f"{_kind} {_sort} SPENDABLE", f"{_kind} {_sort} UNSPENDABLE"}


def test_the_ledger_judges_as_the_text_does() -> None:
    """And the examples are worth something: each verdict is met for each kind, flag and pathway."""
    seen: Counter[str] = Counter()

    @settings(
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(transactions())
    def judge(transaction: Transaction) -> None:
        expected = letter.judge(transaction.inputs, transaction.outputs, transaction.quote_id, NOW)
        assert mints_verdict(transaction) == expected
        seen.update(sorts(transaction, expected))

    judge()
    assert not {sort for sort in SORTS if not seen[sort]}, seen
