-- How many melts are in flight, and over how much: asked for by each that begins, and found without counting them. By
-- triggers, so that no operation can forget it. The audit counts, and so does each start: what is written here never
-- keeps a payment from being settled.

CREATE TABLE in_flight (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    melts INTEGER NOT NULL CHECK (melts >= 0),
    msat  INTEGER NOT NULL CHECK (msat >= 0)   -- what their destinations shall receive
) STRICT;
INSERT INTO in_flight SELECT 1, count(*), coalesce(sum(amount_msat), 0) FROM melt_quotes WHERE state = 'PENDING';

CREATE TRIGGER melt_begins AFTER UPDATE OF state ON melt_quotes
WHEN new.state = 'PENDING' AND old.state <> 'PENDING'
BEGIN
    UPDATE in_flight SET melts = melts + 1, msat = msat + new.amount_msat;
END;

CREATE TRIGGER melt_ends AFTER UPDATE OF state ON melt_quotes
WHEN new.state <> 'PENDING' AND old.state = 'PENDING'
BEGIN
    UPDATE in_flight SET melts = max(0, melts - 1), msat = max(0, msat - old.amount_msat);
END;
