-- config.sql - config.db, layout 1. Every object version ever kept is a row of entry, valid from one revision up to
-- another; its body is canonical JSON, stored once per content. Only the engine opens the file.
CREATE TABLE revision(
  rev INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK(kind IN('initial','commit','rollback','auto-revert','migrate')),
  restores INTEGER,                 -- the revision a rollback went back to
  author TEXT NOT NULL, author_uid INTEGER, via TEXT NOT NULL, peer TEXT,
  comment TEXT NOT NULL DEFAULT '',
  keep INTEGER NOT NULL DEFAULT 1,  -- the answer to "save the current configuration for rollback?"
  schema_ver INTEGER NOT NULL,      -- of the bodies
  created_us INTEGER NOT NULL,
  state TEXT NOT NULL CHECK(state IN('applying','active','superseded','failed')),
  n_new INTEGER NOT NULL, n_changed INTEGER NOT NULL, n_deleted INTEGER NOT NULL,
  tree_hash BLOB NOT NULL) STRICT;  -- sum modulo 2^256 of SHA-256(class, name, hash) over all objects
CREATE UNIQUE INDEX one_head ON revision((1)) WHERE state IN('applying','active');

CREATE TABLE blob(hash BLOB PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE entry(
  scope TEXT NOT NULL,              -- 'machine'; 'cluster' and 'group:NAME' when gateways share settings
  class TEXT NOT NULL, name TEXT NOT NULL,
  from_rev INTEGER NOT NULL, to_rev INTEGER,
  hash BLOB NOT NULL,
  PRIMARY KEY(scope, class, name, from_rev)) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX entry_live ON entry(scope, class, name) WHERE to_rev IS NULL;
CREATE INDEX entry_from ON entry(from_rev);
CREATE INDEX entry_to ON entry(to_rev) WHERE to_rev IS NOT NULL;

CREATE TABLE candidate(
  id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, base_rev INTEGER NOT NULL,
  restores INTEGER,                 -- a rollback was staged here
  created_us INTEGER NOT NULL, touched_us INTEGER NOT NULL) STRICT;
CREATE TABLE change(
  cand INTEGER NOT NULL REFERENCES candidate ON DELETE CASCADE,
  scope TEXT NOT NULL, class TEXT NOT NULL, name TEXT NOT NULL,
  base_hash BLOB, new_hash BLOB,    -- NULL: absent
  schema_ver INTEGER NOT NULL,      -- of the two bodies
  PRIMARY KEY(cand, scope, class, name)) STRICT, WITHOUT ROWID;

CREATE TABLE confirm(               -- at most one row: the armed timer of a commit that waits for its confirmation
  one INTEGER PRIMARY KEY CHECK(one = 1), rev INTEGER NOT NULL, prev_rev INTEGER NOT NULL,
  owner TEXT NOT NULL, owner_session TEXT, need_new_session INTEGER NOT NULL,
  boot_id TEXT NOT NULL, deadline_boottime_ms INTEGER NOT NULL, deadline_wall_us INTEGER NOT NULL) STRICT;

CREATE TABLE secret(                -- bodies refer to it as "sealed:ID:FP"
  id TEXT PRIMARY KEY, kind TEXT NOT NULL,
  fp TEXT NOT NULL,                 -- keyed digest of kind and plain text
  wrapped_dek BLOB NOT NULL, nonce BLOB NOT NULL, ct BLOB NOT NULL,
  created_us INTEGER NOT NULL) STRICT;
CREATE UNIQUE INDEX secret_fp ON secret(fp);
