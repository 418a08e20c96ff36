-- What a node forgets: payments that it made, when its database is put back to an older state, and invoices that were
-- paid, when they are deleted.

ALTER TABLE ledger ADD COLUMN remembered INTEGER NOT NULL DEFAULT 0;  -- commits that the node has said it remembers
ALTER TABLE ledger ADD COLUMN forgot_run INTEGER NOT NULL DEFAULT 0;  -- what was begun in runs before it, it may not know
ALTER TABLE ledger ADD COLUMN moves_index INTEGER NOT NULL DEFAULT 0; -- the node's last channel move before its last start

ALTER TABLE mint_quotes ADD COLUMN payment_hash BLOB; -- of a bolt11 quote's invoice
CREATE INDEX mint_quotes_hash ON mint_quotes (payment_hash) WHERE payment_hash IS NOT NULL AND amount_paid = 0;
