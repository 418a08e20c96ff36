-- What came in, went out and failed within a time, found without reading what is older (ledger/report.py).

CREATE INDEX receipts_time ON receipts (received_at);
CREATE INDEX melt_quotes_paid ON melt_quotes (paid_at) WHERE state = 'PAID';
CREATE INDEX melt_quotes_failed ON melt_quotes (begun_at) WHERE error IS NOT NULL;
