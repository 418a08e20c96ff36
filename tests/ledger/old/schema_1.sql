-- A ledger as the mint of schema version 1 left it (a dump by sqlite3): tests/ledger/test_upgrade.py says what is in it.
BEGIN TRANSACTION;
CREATE TABLE dead_payouts (             -- transactions that can never pay: one of their coins was spent otherwise
    txid         BLOB    PRIMARY KEY,
    melt_quote   INTEGER NOT NULL REFERENCES melt_quotes (n),
    psbt         TEXT    NOT NULL,
    spent_by     BLOB    NOT NULL,      -- the transaction in the chain that did it
    spent_height INTEGER NOT NULL,
    died_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE deposits (                 -- outputs seen on the chain that pay an onchain mint quote in time (NUT-30)
    outpoint   BLOB    PRIMARY KEY CHECK (length(outpoint) = 36), -- txid as it is written, then vout (big-endian)
    mint_quote INTEGER NOT NULL REFERENCES mint_quotes (n),
    amount_sat INTEGER NOT NULL CHECK (amount_sat > 0),
    seen_at    INTEGER NOT NULL,
    watched    INTEGER NOT NULL DEFAULT 1 CHECK (watched IN (0, 1)) -- not credited yet
) STRICT;
CREATE TABLE fee_options (              -- what an onchain melt quote offers (NUT-30)
    melt_quote       INTEGER NOT NULL REFERENCES melt_quotes (n),
    fee_index        INTEGER NOT NULL,
    fee_reserve      INTEGER NOT NULL,
    estimated_blocks INTEGER NOT NULL,
    feerate_perkw    INTEGER NOT NULL,  -- satoshis for 1000 units of weight, as the node is told
    PRIMARY KEY (melt_quote, fee_index)
) STRICT, WITHOUT ROWID;
CREATE TABLE issues (                   -- how much each issue took from each mint quote
    operation  INTEGER NOT NULL REFERENCES operations (n),
    mint_quote INTEGER NOT NULL REFERENCES mint_quotes (n),
    amount     INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (operation, mint_quote)
) STRICT, WITHOUT ROWID;
INSERT INTO "issues" VALUES(1,1,12);
INSERT INTO "issues" VALUES(2,2,16);
INSERT INTO "issues" VALUES(4,3,32);
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
INSERT INTO "keysets" VALUES(1,'0159e2bf6f68f13bac7e6f6dbc1f932eb7bbe473cbc1368884399fe9e826e42f3a','sat',0,1,0,NULL,0,1800000000,76,16,0);
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
INSERT INTO "ledger" VALUES(1,'512b47e3e7364589104cc1f7ec241a84',1,1800000000,16,0,0,0,0,NULL);
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
INSERT INTO "melt_quotes" VALUES(1,'01a205c9-8951-7512-a41b-bfb55074a7df','bolt11','sat','invoice of 01a205c9-8951-7512-a41b-bfb55074a7df',NULL,X'30316132303563392D383935312D373531322D613431622D626662353530373461376466',31,31000,0,0,1,NULL,1800003600,1800000000,3,7,'PENDING',1,X'69FBA1A85560382B2333E894EA4ED284D4C78DB42D9798923AF134CA5BF373CB',NULL,32,0,1800000000,0,NULL,NULL,NULL);
CREATE TABLE method_books (             -- what came in and went out, by payment method and unit
    method            TEXT    NOT NULL,
    unit              TEXT    NOT NULL,
    received_msat     INTEGER NOT NULL DEFAULT 0,
    paid_out_msat     INTEGER NOT NULL DEFAULT 0,
    routing_fees_msat INTEGER NOT NULL DEFAULT 0, -- of onchain: what its transactions paid the miners
    PRIMARY KEY (method, unit)
) STRICT, WITHOUT ROWID;
INSERT INTO "method_books" VALUES('bolt11','sat',124000,0,0);
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
INSERT INTO "mint_quotes" VALUES(1,'01a205c9-890a-77c8-8a59-4d5029f780ed','nutbolt-4611edf4a84968a884ae840b00d2e797','bolt11','sat','invoice of 01a205c9-890a-77c8-8a59-4d5029f780ed',12,NULL,NULL,12,12,1800000000,1800000002);
INSERT INTO "mint_quotes" VALUES(2,'01a205c9-8927-7bd2-9dc8-152793499b4f','nutbolt-2b0ac59bb8e8737c736ecab45fc1335d','bolt11','sat','invoice of 01a205c9-8927-7bd2-9dc8-152793499b4f',16,NULL,NULL,16,16,1800000000,1800000002);
INSERT INTO "mint_quotes" VALUES(3,'01a205c9-8942-72da-97b9-0440a0e91fd5','nutbolt-95c458614dd5d3821d338a317341ee44','bolt11','sat','invoice of 01a205c9-8942-72da-97b9-0440a0e91fd5',32,NULL,NULL,32,32,1800000000,1800000002);
INSERT INTO "mint_quotes" VALUES(4,'01a205c9-895e-7d00-b13c-cc088ff4991c','nutbolt-0079d53e2aafb9332018e7833bf378a0','bolt11','sat','invoice of 01a205c9-895e-7d00-b13c-cc088ff4991c',64,NULL,NULL,64,0,1800000000,1800000001);
INSERT INTO "mint_quotes" VALUES(5,'01a205c9-896a-7139-b9a6-952186c38d47','nutbolt-7ab674634e9e1b89cecf030fd8e3395d','bolt11','sat','invoice of 01a205c9-896a-7139-b9a6-952186c38d47',128,NULL,NULL,0,0,1800000000,1800000000);
CREATE TABLE operations (               -- swaps and issues, to answer an identical request again (NUT-19)
    n          INTEGER PRIMARY KEY,
    kind       TEXT    NOT NULL,
    digest     BLOB    NOT NULL UNIQUE, -- SHA-256 of the request
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO "operations" VALUES(1,'issue',X'22511360DA57E30D976EE44C49657CFC0498C25B32F0CEAC4A46CE5A780C5E44',1800000000);
INSERT INTO "operations" VALUES(2,'issue',X'1ACA5D1EF4B207B67EA393C6701289FA549498582C3AC7B55155C42B5430871C',1800000000);
INSERT INTO "operations" VALUES(3,'swap',X'35403F816DA606BCC18A97888F4E120400977C3D851343CC74B87AA13C4826C6',1800000000);
INSERT INTO "operations" VALUES(4,'issue',X'5EBA7CB15156CE34104B59091BF0AC5C85DC72FA89F26647B42133AE32A1DA21',1800000000);
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
INSERT INTO "promises" VALUES(1,X'02399A3B6C8D973D3B5E1F0DFF5C464828BFA8F1363B480C0B104B87767A5489B1',1,8,X'029EDD9297697860AC207252F0C54ED0E6592C613EC9B8484E5059D6164E925C94',X'9B8AFD932A56AE6E36F416F8F87EEF380632744874CA7C44655F9256797B578B',X'064752A6711CB3163B3A9502652F316434F0E1E752DB7803936E4866582E5FF7',1,NULL);
INSERT INTO "promises" VALUES(2,X'0326F98C29162957558ABC8022EDDAA4E851F403ADF118BCFA4E6CAB3E8A0F8ED6',1,4,X'02E0F08A8BCFB58AC35085187B6CE57EEDB845DE9BE445198225FD93AE559BDCBD',X'1509C1A8DB9A583B6DB2AFD5D31B16D80B8F1632FCA497A69344F4FB8F2EFBFA',X'C9B7954562D0E1E822B0CC6EFF7BEE90C8FE01E6EF2C55692186A46CA1A41DCB',1,NULL);
INSERT INTO "promises" VALUES(3,X'02EFE9B8BBF808928E27FF3F73D50081EA406675ABBCE5D0EEFBD22F0A5AD756E7',1,16,X'025167C300C460B1C0CC8AAF541A1359FA21A2901FC5E0B5766869C3FDA05F83C7',X'8260B5F8867D30EB373C143CF759567548674C8F3D7164B30D8E34BDB3A5DC6E',X'7AD1F0C79334129E595CF03E1F3F1BB195736C64C23C26263B8A2EDC89B15171',2,NULL);
INSERT INTO "promises" VALUES(4,X'03679E4CFAB04AE4A384A0CACA325B82B783FCDBC3278FF1516AB1B1CC9F9A8238',1,16,X'03EF740722077760E048A4818291A7911978A86CE22EB943C3FFB931A5573B2745',X'AF1979744BE2367CC578D72A4F2F330DAD64F91401CCF3CC9623EF8A7F00ACA2',X'1D35B294C72D5EF51AFDB3292C6E2660F7A68C6387D151F6AC56F945274E78F7',3,NULL);
INSERT INTO "promises" VALUES(5,X'0377C512C8E34CAEFD187DFA6D7F569F7E13D250A9BBFB111B7281410786848F8F',1,32,X'03E93E093E83E54044F2311D9E35F260ACD9860FDAC2DAF780264762D941D5B270',X'2624E73BEAC20F73BD2C5892F5432F11780297FF00FD670A4FE6E98CCE26D52F',X'C6BC8B65D7A10C644F16533B9210B91D38067C62F92BDDA1230EBDE09B9A1C04',4,NULL);
INSERT INTO "promises" VALUES(6,X'02587A78FC2F75F7155900E0854B48C2778B614E13089009B436E2BC14BCFA2195',1,NULL,NULL,NULL,NULL,NULL,1);
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
INSERT INTO "proofs" VALUES(1,X'02545089607F6F89A5F72A7000EC747B8C7D9073D9A7246D1C756EA025304685B3',1,16,'a66c3e6b9f4fc193b1909457f20970d6ad927846c6fc0b20ac0ce20396a5e107',X'038E3BA487FA09848E7DFD9EBA69E88B4E1BACAE74FDD1C3546AD46DF9CCF615CA',NULL,1800000000,3,NULL);
INSERT INTO "proofs" VALUES(2,X'020FECCC44667FD589CD6F4D8DEA9EA6884996D269D2B59BD693E8ED20575EB2D0',1,32,'ee509c63c9e330ae0e2a77cdee8d9ca61a3e6d2eff979e6eeafa7fb337edbb59',X'028F7E4D57BD8C93ED444887E4C7D907EB584028A2CC5FB560E9669E3ADC892733',NULL,NULL,NULL,1);
CREATE TABLE receipts (                 -- one row for each payment received: credited once
    payment_id    BLOB    PRIMARY KEY,  -- bolt11, bolt12: the payment hash; onchain: txid and vout
    mint_quote    INTEGER NOT NULL REFERENCES mint_quotes (n),
    received_msat INTEGER NOT NULL,
    amount        INTEGER NOT NULL,     -- credited to the quote
    received_at   INTEGER NOT NULL
) STRICT;
INSERT INTO "receipts" VALUES(X'30316132303563392D383930612D373763382D386135392D346435303239663738306564',1,12000,12,1800000000);
INSERT INTO "receipts" VALUES(X'30316132303563392D383932372D376264322D396463382D313532373933343939623466',2,16000,16,1800000000);
INSERT INTO "receipts" VALUES(X'30316132303563392D383934322D373264612D393762392D303434306130653931666435',3,32000,32,1800000000);
INSERT INTO "receipts" VALUES(X'30316132303563392D383935652D376430302D623133632D636330383866663439393163',4,64000,64,1800000000);
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
CREATE UNIQUE INDEX mint_quotes_onchain ON mint_quotes (request) WHERE method = 'onchain';
CREATE INDEX deposits_watched ON deposits (mint_quote) WHERE watched = 1;
CREATE INDEX issues_of_quote ON issues (mint_quote);
CREATE UNIQUE INDEX melt_quotes_live ON melt_quotes (payment_hash) WHERE state IN ('PENDING', 'PAID');
CREATE INDEX melt_quotes_pending ON melt_quotes (n) WHERE state = 'PENDING';
CREATE INDEX proofs_of_melt ON proofs (melt_quote) WHERE melt_quote IS NOT NULL;
CREATE INDEX promises_of_operation ON promises (operation) WHERE operation IS NOT NULL;
CREATE INDEX promises_of_melt ON promises (melt_quote) WHERE melt_quote IS NOT NULL;
COMMIT;
