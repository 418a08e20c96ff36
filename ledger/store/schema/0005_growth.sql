-- What is looked up while a wallet waits costs the same however long the ledger's history is.

DROP INDEX melt_quotes_pending;
CREATE INDEX melt_quotes_pending ON melt_quotes (n, amount_msat) WHERE state = 'PENDING'; -- counts and sums by itself
CREATE INDEX mint_quotes_open_onchain ON mint_quotes (created_at, expiry) WHERE method = 'onchain' AND amount_paid = 0;
