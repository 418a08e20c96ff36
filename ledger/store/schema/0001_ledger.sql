-- The ledger. Amounts are integers in the minor unit of the keyset's or quote's unit, unless a name ends in _msat.
-- Times are unix seconds. Points are 33-byte compressed encodings, hashes and scalars 32 bytes.

CREATE TABLE ledger (                   -- what the ledger knows about itself: one row
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    mint_id         TEXT    NOT NULL,   -- random; the node's datastore holds it as well (tripwire)
    epoch           INTEGER NOT NULL,   -- part of the seed's derivation: a new epoch has new keys
    created_at      INTEGER NOT NULL,
    commits         INTEGER NOT NULL DEFAULT 0,  -- grows with every group commit (tripwire)
    pay_index       INTEGER NOT NULL DEFAULT 0,  -- the node's last invoice payment that was credited or passed by
    chain_index     INTEGER NOT NULL DEFAULT 0,  -- the node's last on-chain move that was looked at
    node_run        INTEGER NOT NULL DEFAULT 0,  -- counts the node's starts, as far as they were seen
    node_started_at INTEGER NOT NULL DEFAULT 0,  -- no row of the node that is older came after its last start
    node_process    TEXT                         -- tells the node's process from others, if the system could say
) STRICT;

CREATE TABLE keysets (
    n             INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,       -- NUT-02
    unit          TEXT    NOT NULL,
    counter       INTEGER NOT NULL,              -- the keys are derived from (seed, unit, counter)
    active        INTEGER NOT NULL CHECK (active IN (0, 1)),
    input_fee_ppk INTEGER NOT NULL CHECK (input_fee_ppk >= 0),
    final_expiry  INTEGER,
    configured_fee_ppk INTEGER NOT NULL,         -- what the operator's option said when the keyset was made
    created_at    INTEGER NOT NULL,
    -- The books of the keyset; changed in the transaction that changes the rows they count.
    issued        INTEGER NOT NULL DEFAULT 0 CHECK (issued >= 0),
    redeemed      INTEGER NOT NULL DEFAULT 0 CHECK (redeemed >= 0),
    fees          INTEGER NOT NULL DEFAULT 0 CHECK (fees >= 0),      -- input fees taken (NUT-02)
    UNIQUE (unit, counter)
) STRICT;

CREATE TABLE method_books (             -- what came in and went out, by payment method and unit
    method            TEXT    NOT NULL,
    unit              TEXT    NOT NULL,
    received_msat     INTEGER NOT NULL DEFAULT 0,
    paid_out_msat     INTEGER NOT NULL DEFAULT 0,
    routing_fees_msat INTEGER NOT NULL DEFAULT 0, -- of onchain: what its transactions paid the miners
    PRIMARY KEY (method, unit)
) STRICT, WITHOUT ROWID;

CREATE TABLE operations (               -- swaps and issues, to answer an identical request again (NUT-19)
    n          INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE, -- SHA-256 of the request
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE mint_quotes (
    n             INTEGER PRIMARY KEY,
    id            TEXT    NOT NULL UNIQUE,
    label         TEXT    NOT NULL UNIQUE,       -- how the node knows it; made from the id, which is a secret
    method        TEXT    NOT NULL,
    unit          TEXT    NOT NULL,
    request       TEXT    NOT NULL,
    amount        INTEGER,
    pubkey        TEXT,                 -- NUT-20, as the wallet sent it
    expiry        INTEGER,
    amount_paid   INTEGER NOT NULL DEFAULT 0,
    amount_issued INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,     -- strictly grows with each change
    CHECK (0 <= amount_issued AND amount_issued <= amount_paid)
) STRICT;

CREATE UNIQUE INDEX mint_quotes_onchain ON mint_quotes (request) WHERE method = 'onchain'; -- an address for each

CREATE TABLE receipts (                 -- one row for each payment received: credited once
    payment_id    BLOB    PRIMARY KEY,  -- bolt11, bolt12: the payment hash; onchain: txid and vout
    mint_quote    INTEGER NOT NULL REFERENCES mint_quotes (n),
    received_msat INTEGER NOT NULL,
    amount        INTEGER NOT NULL,     -- credited to the quote
    received_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE deposits (                 -- outputs seen on the chain that pay an onchain mint quote in time (NUT-30)
    outpoint   BLOB    PRIMARY KEY CHECK (length(outpoint) = 36), -- txid as it is written, then vout (big-endian)
    mint_quote INTEGER NOT NULL REFERENCES mint_quotes (n),
    amount_sat INTEGER NOT NULL CHECK (amount_sat > 0),
    seen_at    INTEGER NOT NULL,
    watched    INTEGER NOT NULL DEFAULT 1 CHECK (watched IN (0, 1)) -- not credited yet
) STRICT;
CREATE INDEX deposits_watched ON deposits (mint_quote) WHERE watched = 1;

CREATE TABLE issues (                   -- how much each issue took from each mint quote
    operation  INTEGER NOT NULL REFERENCES operations (n),
    mint_quote INTEGER NOT NULL REFERENCES mint_quotes (n),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (operation, mint_quote)
) STRICT, WITHOUT ROWID;
CREATE INDEX issues_of_quote ON issues (mint_quote);

CREATE TABLE melt_quotes (
    n               INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    method          TEXT    NOT NULL,
    unit            TEXT    NOT NULL,
    request         TEXT    NOT NULL,
    invoice         TEXT,               -- what is paid, if it is not the request itself: the offer's invoice
    payment_hash    BLOB    CHECK (payment_hash IS NOT NULL OR method = 'onchain'),
    amount          INTEGER NOT NULL,
    amount_msat     INTEGER NOT NULL,   -- what the destination shall receive
    amountless      INTEGER NOT NULL CHECK (amountless IN (0, 1)), -- the invoice names no amount (NUT-23)
    partial         INTEGER NOT NULL CHECK (partial IN (0, 1)),    -- amount is a part of the invoice's (NUT-15)
    fee_reserve     INTEGER,            -- NULL while the wallet has not chosen one of fee_options
    fee_index       INTEGER,            -- which of fee_options it chose; never another after that (NUT-30)
    expiry          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    sends_index   INTEGER NOT NULL,   -- the node's count of payment rows ever made, when the quote was made
    moves_index     INTEGER NOT NULL,   -- the node's count of channel moves when the quote was made
    state           TEXT    NOT NULL DEFAULT 'UNPAID' CHECK (state IN ('UNPAID', 'PENDING', 'PAID')),
    attempt         INTEGER NOT NULL DEFAULT 0,  -- counts the times that it went PENDING
    digest          BLOB,                        -- SHA-256 of the request that began the last attempt (NUT-19)
    error           TEXT,                        -- why the last attempt failed
    -- Of the last attempt:
    input_amount    INTEGER,
    input_fee       INTEGER,
    begun_at        INTEGER,
    node_run        INTEGER,                     -- ledger.node_run when the attempt began
    -- Of the payment:
    preimage        BLOB,
    sent_msat       INTEGER,                     -- what left the node: amount and routing fees
    paid_at         INTEGER
) STRICT;

-- One live melt for each payment hash; for one that was paid, for ever.
CREATE UNIQUE INDEX melt_quotes_live ON melt_quotes (payment_hash) WHERE state IN ('PENDING', 'PAID');
CREATE INDEX melt_quotes_pending ON melt_quotes (n) WHERE state = 'PENDING';

CREATE TABLE fee_options (              -- what an onchain melt quote offers (NUT-30)
    melt_quote       INTEGER NOT NULL REFERENCES melt_quotes (n),
    fee_index        INTEGER NOT NULL,
    fee_reserve      INTEGER NOT NULL,
    estimated_blocks INTEGER NOT NULL,
    feerate_perkw    INTEGER NOT NULL,  -- satoshis for 1000 units of weight, as the node is told
    PRIMARY KEY (melt_quote, fee_index)
) STRICT, WITHOUT ROWID;

CREATE TABLE payouts (                  -- the one transaction that may pay an onchain melt; written before it is sent
    melt_quote   INTEGER PRIMARY KEY REFERENCES melt_quotes (n),
    txid         BLOB    NOT NULL UNIQUE CHECK (length(txid) = 32), -- as it is written
    vout         INTEGER NOT NULL,
    psbt         TEXT    NOT NULL,      -- signed
    fee_sat      INTEGER NOT NULL CHECK (fee_sat >= 0), -- sum of its inputs less sum of its outputs
    height       INTEGER NOT NULL,      -- of the chain when it was built
    chain_index  INTEGER NOT NULL,      -- what moved its coins since then has a higher index at the node
    built_at     INTEGER NOT NULL,
    broadcast_at INTEGER                -- when the node had it accepted, or saw it, for the first time
) STRICT;

CREATE TABLE dead_payouts (             -- transactions that can never pay: one of their coins was spent otherwise
    txid         BLOB    PRIMARY KEY,
    melt_quote   INTEGER NOT NULL REFERENCES melt_quotes (n),
    psbt         TEXT    NOT NULL,
    spent_by     BLOB    NOT NULL,      -- the transaction in the chain that did it
    spent_height INTEGER NOT NULL,
    died_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE resolutions (              -- melts that the operator ended by force: who, why, and what was known then
    n                   INTEGER PRIMARY KEY,
    melt_quote          INTEGER NOT NULL REFERENCES melt_quotes (n),
    attempt             INTEGER NOT NULL,
    outcome             TEXT    NOT NULL CHECK (outcome IN ('PAID', 'FAILED')),
    who                 TEXT    NOT NULL,
    reason              TEXT    NOT NULL CHECK (reason <> ''),
    evidence            TEXT    NOT NULL,   -- JSON
    resolved_at         INTEGER NOT NULL,
    paid_after_all_at   INTEGER,            -- FAILED, but the node turned out to have made the payment
    paid_after_all_msat INTEGER,            -- what left the node for it
    UNIQUE (melt_quote, attempt),
    CHECK (outcome = 'FAILED' OR paid_after_all_at IS NULL),
    CHECK ((paid_after_all_at IS NULL) = (paid_after_all_msat IS NULL))
) STRICT;

CREATE TABLE proofs (                   -- every proof spent, or held by a pending melt: one row for each Y
    n          INTEGER PRIMARY KEY,
    y          BLOB    NOT NULL UNIQUE CHECK (length(y) = 33),
    keyset     INTEGER NOT NULL REFERENCES keysets (n),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    secret     TEXT    NOT NULL,
    c          BLOB    NOT NULL CHECK (length(c) = 33),
    witness    TEXT,
    spent_at   INTEGER,                 -- NULL: held by a pending melt
    operation  INTEGER REFERENCES operations (n),
    melt_quote INTEGER REFERENCES melt_quotes (n),
    CHECK ((operation IS NULL) <> (melt_quote IS NULL)),
    CHECK (spent_at IS NOT NULL OR melt_quote IS NOT NULL)
) STRICT;
CREATE INDEX proofs_of_melt ON proofs (melt_quote) WHERE melt_quote IS NOT NULL;

CREATE TABLE promises (                 -- every output signed, or held blank by a pending melt: one row for each B_
    n          INTEGER PRIMARY KEY,     -- grows in the order of the request's outputs
    b_         BLOB    NOT NULL UNIQUE CHECK (length(b_) = 33),
    keyset     INTEGER NOT NULL REFERENCES keysets (n),
    amount     INTEGER CHECK (amount > 0),       -- NULL while blank
    c_         BLOB,
    e          BLOB,                    -- NUT-12
    s          BLOB,
    operation  INTEGER REFERENCES operations (n),
    melt_quote INTEGER REFERENCES melt_quotes (n),
    CHECK ((operation IS NULL) <> (melt_quote IS NULL)),
    CHECK ((amount IS NULL) = (c_ IS NULL)),
    CHECK (c_ IS NOT NULL OR melt_quote IS NOT NULL)
) STRICT;
CREATE INDEX promises_of_operation ON promises (operation) WHERE operation IS NOT NULL;
CREATE INDEX promises_of_melt ON promises (melt_quote) WHERE melt_quote IS NOT NULL;
