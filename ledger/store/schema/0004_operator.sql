-- What the operator has decided while the mint runs: what is paused, and the message of the day.

ALTER TABLE ledger ADD COLUMN minting_paused_at INTEGER;    -- NULL: not paused
ALTER TABLE ledger ADD COLUMN melting_paused_at INTEGER;
ALTER TABLE ledger ADD COLUMN motd TEXT CHECK (motd <> ''); -- NUT-06
