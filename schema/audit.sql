-- audit.sql - audit.db, attached to config.db as "audit": who did what. Rows are only ever added; each hash covers the row
-- and the hash before it.
CREATE TABLE audit.audit(
  id INTEGER PRIMARY KEY AUTOINCREMENT, ts_us INTEGER NOT NULL, actor TEXT NOT NULL, uid INTEGER,
  role TEXT, peer TEXT, session INTEGER, action TEXT NOT NULL, object TEXT, result TEXT NOT NULL,
  detail TEXT, prev_hash BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TRIGGER audit.audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never changed'); END;
CREATE TRIGGER audit.audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit rows are never deleted'); END;
