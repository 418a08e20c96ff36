-- What is owed beside the ecash in wallets' hands, found without reading every quote ever made.

CREATE INDEX mint_quotes_unissued ON mint_quotes (unit, amount_paid, amount_issued) WHERE amount_paid > amount_issued;
CREATE INDEX mint_quotes_unpaid ON mint_quotes (expiry, unit, amount) WHERE amount_paid = 0 AND amount IS NOT NULL;
