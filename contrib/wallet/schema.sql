-- The wallet's file. Amounts are in the minor unit of the row's unit, times are unix seconds.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,           -- 'words', 'quote_keys' (next NUT-20 key index)
    value TEXT NOT NULL
) STRICT;

-- A keyset belongs to the mint that showed it first: public keys are public, and a mint that lists
-- another one's keyset as its own would otherwise be sent the other one's proofs.
CREATE TABLE keysets (
    id            TEXT PRIMARY KEY,
    mint          TEXT NOT NULL,
    unit          TEXT NOT NULL,
    active        INTEGER NOT NULL,
    input_fee_ppk INTEGER NOT NULL,
    final_expiry  INTEGER,
    keys          TEXT NOT NULL,       -- JSON: {"<amount>": "<point hex>"}
    counter       INTEGER NOT NULL DEFAULT 0  -- next NUT-13 counter; only ever grows
) STRICT;

-- The journal: one row per thing that moves value, written before the request is sent.
CREATE TABLE operations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL CHECK (kind IN ('mint', 'swap', 'receive', 'melt', 'send')),
    mint       TEXT NOT NULL,
    unit       TEXT NOT NULL,
    -- open: outcome unknown; pending: the mint is paying; sent: a token is out; done, failed: over
    state      TEXT NOT NULL CHECK (state IN ('open', 'pending', 'sent', 'done', 'failed')),
    amount     INTEGER NOT NULL,
    quote      TEXT,
    token      TEXT,
    error      TEXT,
    cost       INTEGER,                -- when done: sum of inputs less sum of the proofs that came back
    owner      TEXT,                   -- who is waiting for the mint's answer right now
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX operations_unfinished ON operations (mint, state) WHERE state IN ('open', 'pending', 'sent');
CREATE INDEX operations_quote ON operations (quote) WHERE quote IS NOT NULL;

-- Outputs of an operation. Secrets are derived from (keyset, counter), which is unique for ever.
CREATE TABLE outputs (
    operation INTEGER NOT NULL REFERENCES operations (id),
    position  INTEGER NOT NULL,
    keyset    TEXT NOT NULL REFERENCES keysets (id),
    counter   INTEGER NOT NULL,
    amount    INTEGER NOT NULL,        -- 0: blank (NUT-08)
    for_send  INTEGER NOT NULL,
    PRIMARY KEY (operation, position),
    UNIQUE (keyset, counter)
) STRICT, WITHOUT ROWID;

CREATE TABLE proofs (
    secret    TEXT PRIMARY KEY,
    y         TEXT NOT NULL UNIQUE,
    keyset    TEXT NOT NULL REFERENCES keysets (id),
    amount    INTEGER NOT NULL,
    c         TEXT NOT NULL,
    dleq      TEXT,                    -- JSON: {"e", "s", "r"}
    witness   TEXT,
    -- reserved: input of `operation`; sent: in the token of `operation`;
    -- pending: in use at the mint by something that this file does not know (after a restore)
    state     TEXT NOT NULL CHECK (state IN ('unspent', 'reserved', 'sent', 'pending', 'spent')),
    operation INTEGER REFERENCES operations (id),
    CHECK ((operation IS NOT NULL) OR state IN ('unspent', 'pending', 'spent'))
) STRICT, WITHOUT ROWID;

CREATE INDEX proofs_live ON proofs (keyset, state) WHERE state <> 'spent';
CREATE INDEX proofs_operation ON proofs (operation) WHERE operation IS NOT NULL;

-- Inputs of an operation, kept after it is over; `origin` is the send whose token they were taken back from.
CREATE TABLE inputs (
    operation INTEGER NOT NULL REFERENCES operations (id),
    secret    TEXT NOT NULL REFERENCES proofs (secret),
    origin    INTEGER REFERENCES operations (id),
    own       INTEGER NOT NULL,        -- 0: they came in with a received token
    PRIMARY KEY (operation, secret)
) STRICT, WITHOUT ROWID;

CREATE TABLE mint_quotes (
    mint       TEXT NOT NULL,
    id         TEXT NOT NULL,
    key_index  INTEGER,                -- NUT-20 key that locks it
    body       TEXT NOT NULL,          -- the last answer of the mint, JSON
    created_at INTEGER NOT NULL,
    PRIMARY KEY (mint, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE melt_quotes (
    mint       TEXT NOT NULL,
    id         TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (mint, id)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 1;
