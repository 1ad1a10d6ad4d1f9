-- queue.sql - queue.db: one row per message that is not finished. The bodies are in the spool.
-- The columns are binary records (daemon/message.c, daemon/spool.c): a row is written once, its state again after an
-- attempt that left something to do, and it is deleted when its last recipient is done.
CREATE TABLE IF NOT EXISTS message (
    mid INTEGER PRIMARY KEY,
    body BLOB NOT NULL,     -- place in the spool
    envelope BLOB NOT NULL, -- sender, recipients, what DSN needs
    state BLOB              -- states of the recipients; NULL before the first attempt
);
-- counters: the next block of MIDs, ICIDs and DCIDs to hand out; settings that outlive a restart: "suspended"
CREATE TABLE IF NOT EXISTS value (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
-- what people said that outlives a restart: "paused_by", "admin: checking LDAP server"
CREATE TABLE IF NOT EXISTS note (
    name TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;
