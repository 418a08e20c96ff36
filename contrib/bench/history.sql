-- A long history for a ledger, made of random rows; see history.py. Bound from there: how many stories, the keyset, when
-- the first one began (:begun) and how many seconds lie between two (:step), and the last row numbers that are taken.

CREATE TEMP TABLE story (i INTEGER PRIMARY KEY, at INTEGER NOT NULL, time TEXT NOT NULL);
WITH RECURSIVE counted (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM counted WHERE i + 1 < :stories)
INSERT INTO story SELECT i, at, printf('%08x-%04x', at * 1000 >> 16, at * 1000 & 65535)
FROM (SELECT i, :begun + CAST(i * :step AS INTEGER) AS at FROM counted);

CREATE TEMP TABLE coin (k INTEGER PRIMARY KEY);
WITH RECURSIVE counted (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM counted WHERE k + 1 < :coins)
INSERT INTO coin SELECT k FROM counted;

-- Ids of quotes begin with their time, like the mint's own; labels don't.

INSERT INTO mint_quotes (n, id, label, method, unit, request, amount, expiry, amount_paid, amount_issued, created_at,
    updated_at, payment_hash)
SELECT :mint_quotes + 1 + i, time || '-7000-8000-' || lower(hex(randomblob(6))),
    'nutbolt-' || lower(hex(randomblob(16))), 'bolt11', 'sat', 'lnbcrt640n1' || lower(hex(randomblob(140))),
    :coins * :coin, at + 3600, :coins * :coin, :coins * :coin, at, at + 60, randomblob(32)
FROM story;

INSERT INTO mint_quotes (id, label, method, unit, request, amount, expiry, created_at, updated_at, payment_hash)
SELECT time || '-7000-9000-' || lower(hex(randomblob(6))), 'nutbolt-' || lower(hex(randomblob(16))), 'bolt11', 'sat',
    'lnbcrt640n1' || lower(hex(randomblob(140))), :coins * :coin, at + 3600, at, at, randomblob(32)
FROM story WHERE i % 2;

INSERT INTO receipts (payment_id, mint_quote, received_msat, amount, received_at)
SELECT randomblob(32), :mint_quotes + 1 + i, :coins * :coin * 1000, :coins * :coin, at + 60 FROM story;

INSERT INTO operations (n, kind, digest, created_at)
SELECT :operations + 1 + 3 * i + k, CASE k WHEN 0 THEN 'issue' ELSE 'swap' END, randomblob(32), at + 60
FROM story, coin WHERE k < 3;

INSERT INTO issues (operation, mint_quote, amount)
SELECT :operations + 1 + 3 * i, :mint_quotes + 1 + i, :coins * :coin FROM story;

-- A point is 02 and 32 random bytes: nothing computes with these.

INSERT INTO promises (b_, keyset, amount, c_, e, s, operation)
SELECT CAST(x'02' || randomblob(32) AS BLOB), :keyset, :coin, CAST(x'02' || randomblob(32) AS BLOB), randomblob(32),
    randomblob(32), :operations + 1 + 3 * i + operation.k
FROM story, coin AS operation, coin WHERE operation.k < 3;

INSERT INTO proofs (y, keyset, amount, secret, c, spent_at, operation)
SELECT CAST(x'02' || randomblob(32) AS BLOB), :keyset, :coin, lower(hex(randomblob(32))),
    CAST(x'02' || randomblob(32) AS BLOB), at + 60, :operations + 2 + 3 * i + operation.k
FROM story, coin AS operation, coin WHERE operation.k < 2;

INSERT INTO melt_quotes (n, id, method, unit, request, payment_hash, amount, amount_msat, amountless, partial,
    fee_reserve, expiry, created_at, sends_index, moves_index, state, attempt, digest, input_amount, input_fee, begun_at,
    node_run, preimage, sent_msat, paid_at)
SELECT :melt_quotes + 1 + i, time || '-7000-8000-' || lower(hex(randomblob(6))), 'bolt11', 'sat',
    'lnbcrt300n1' || lower(hex(randomblob(140))), randomblob(32), :paid, :paid * 1000, 0, 0, :routing + :change,
    at + 3600, at, i, i, 'PAID', 1, randomblob(32), :melted * :coin, 0, at + 60, 1, randomblob(32),
    (:paid + :routing) * 1000, at + 62
FROM story;

INSERT INTO melt_quotes (id, method, unit, request, payment_hash, amount, amount_msat, amountless, partial, fee_reserve,
    expiry, created_at, sends_index, moves_index)
SELECT time || '-7000-9000-' || lower(hex(randomblob(6))), 'bolt11', 'sat',
    'lnbcrt300n1' || lower(hex(randomblob(140))), randomblob(32), :paid, :paid * 1000, 0, 0, :routing + :change,
    at + 3600, at, i, i
FROM story WHERE i % 2;

INSERT INTO proofs (y, keyset, amount, secret, c, spent_at, melt_quote)
SELECT CAST(x'02' || randomblob(32) AS BLOB), :keyset, :coin, lower(hex(randomblob(32))),
    CAST(x'02' || randomblob(32) AS BLOB), at + 62, :melt_quotes + 1 + i
FROM story, coin WHERE k < :melted;

INSERT INTO promises (b_, keyset, amount, c_, e, s, melt_quote)
SELECT CAST(x'02' || randomblob(32) AS BLOB), :keyset, :change, CAST(x'02' || randomblob(32) AS BLOB), randomblob(32),
    randomblob(32), :melt_quotes + 1 + i
FROM story;

-- The books count it all.

UPDATE keysets
SET issued = issued + :stories * (3 * :coins * :coin + :change),
    redeemed = redeemed + :stories * (2 * :coins + :melted) * :coin
WHERE n = :keyset;

INSERT INTO method_books (method, unit, received_msat, paid_out_msat, routing_fees_msat)
VALUES ('bolt11', 'sat', :stories * :coins * :coin * 1000, :stories * :paid * 1000, :stories * :routing * 1000)
ON CONFLICT DO UPDATE SET received_msat = received_msat + excluded.received_msat,
    paid_out_msat = paid_out_msat + excluded.paid_out_msat,
    routing_fees_msat = routing_fees_msat + excluded.routing_fees_msat;
