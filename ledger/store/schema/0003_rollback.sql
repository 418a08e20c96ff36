-- A node whose database was put back to an older state has forgotten payments that it made.

ALTER TABLE ledger ADD COLUMN remembered INTEGER NOT NULL DEFAULT 0;  -- commits that the node has said it remembers
ALTER TABLE ledger ADD COLUMN forgot_run INTEGER NOT NULL DEFAULT 0;  -- what was begun in runs before it, it may not know
