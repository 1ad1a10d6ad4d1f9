-- state.db: what the gateway has learnt and can learn again, but would rather not lose over a restart. Nothing here is
-- configuration and nothing here is mail. Each table belongs to one file of daemon/, named in its comment.

-- sts.c: MTA-STS policies (RFC 8461), one row per policy domain
CREATE TABLE IF NOT EXISTS sts_policy (
    domain TEXT PRIMARY KEY, -- A-labels, lower case
    id TEXT NOT NULL,        -- of the TXT record the policy was fetched under
    policy TEXT NOT NULL,    -- the body as it came
    fetched INTEGER NOT NULL, -- microseconds since 1970
    used INTEGER NOT NULL     -- when a delivery last asked for it
) WITHOUT ROWID;

-- attempt.c: evidence and verdict of delivery attempts
CREATE TABLE IF NOT EXISTS attempt (
    id INTEGER PRIMARY KEY,
    mid INTEGER NOT NULL,
    at INTEGER NOT NULL,
    domain TEXT NOT NULL,
    record TEXT NOT NULL -- JSON
);
CREATE INDEX IF NOT EXISTS attempt_mid ON attempt (mid);

-- alert.c: the alerts displayalerts shows, newest last
CREATE TABLE IF NOT EXISTS alert (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    key TEXT NOT NULL, -- what it is about
    class TEXT NOT NULL,
    severity TEXT NOT NULL,
    text TEXT NOT NULL
);
