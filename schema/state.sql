-- state.db: what the gateway has learnt and can learn again, but would rather not lose over a restart. Nothing here is
-- configuration and nothing here is mail. Each table belongs to one file of daemon/, named in its comment.

-- mta_sts.c: MTA-STS policies (RFC 8461), one row per policy domain
CREATE TABLE IF NOT EXISTS sts_policy (
    domain TEXT PRIMARY KEY, -- A-labels, lower case
    id TEXT NOT NULL,        -- of the TXT record the policy was fetched under
    policy TEXT NOT NULL,    -- the body as it came
    fetched INTEGER NOT NULL, -- microseconds since 1970
    used INTEGER NOT NULL     -- when a delivery last asked for it
) WITHOUT ROWID;

-- attempt.c: what happened in delivery attempts
CREATE TABLE IF NOT EXISTS attempt_trail (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    hosts TEXT NOT NULL -- JSON: evidence, verdict and session of each host that was tried
);
CREATE TABLE IF NOT EXISTS attempt_block ( -- up to a thousand attempts, packed (attempt.c)
    id INTEGER PRIMARY KEY,
    newest INTEGER NOT NULL, -- microseconds since 1970
    first_mid INTEGER NOT NULL,
    last_mid INTEGER NOT NULL,
    records BLOB NOT NULL
);

-- alert.c: the alerts displayalerts shows, newest last
CREATE TABLE IF NOT EXISTS alert (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    key TEXT NOT NULL, -- what it is about
    class TEXT NOT NULL,
    severity TEXT NOT NULL,
    text TEXT NOT NULL
);

-- expiry.c: which end of a certificate was announced
CREATE TABLE IF NOT EXISTS expiry (
    fingerprint TEXT PRIMARY KEY, -- SHA-256, hexadecimal
    name TEXT NOT NULL,           -- what the alert called it
    step INTEGER NOT NULL,        -- the last one announced: 90, 60, 30, 15, then days, -1 when it was over
    at INTEGER NOT NULL           -- microseconds since 1970
) WITHOUT ROWID;

-- exception_watch.c: what was announced of a TLS exception, and when it was last tried whether it is still needed
CREATE TABLE IF NOT EXISTS exception_note (
    key TEXT PRIMARY KEY,     -- name and last day
    said INTEGER NOT NULL,    -- 1 a week before, 2 a day before, 3 over
    tried INTEGER NOT NULL    -- microseconds since 1970
) WITHOUT ROWID;
