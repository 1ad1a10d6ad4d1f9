-- A database of release 0.1.0 (layout 1, schema 1), as its .dump wrote it: every later release must open it.
PRAGMA application_id=1347638339;
PRAGMA user_version=1;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
  tree_hash BLOB NOT NULL) STRICT;
INSERT INTO revision VALUES(1,'initial',NULL,'posternd',-1,'factory',NULL,'Factory configuration',1,1,1795289299721402,'superseded',24,0,0,X'0b02bddf88abd771d528c6ab4f23ea63cbafaa8e5b3a0dbf127bb045f0a5d0c8');
INSERT INTO revision VALUES(2,'commit',NULL,'root',0,'console','local','TLS for the partner',1,1,1795289302301522,'superseded',1,1,0,X'1a594b8fe0157af37e49dc5137d80cbe2ac5d2915f1a1d2262972bfcfcf6650c');
INSERT INTO revision VALUES(3,'commit',NULL,'root',0,'console','local','second',1,1,1795289302429461,'active',2,0,0,X'452904b3c27c46796f92909a2dfac0f7a06d2d257a2ffa31e565e7455a9185db');
CREATE TABLE blob(hash BLOB PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO blob VALUES(X'03943bd8d9c9ef7fb889c1ed77cabb94c57849027c2c0c76d4930a11ba5ff3ef','{"address":"example.com","action":"accept"}');
INSERT INTO blob VALUES(X'0ee12cd56e356fbea48dbd6c889913af43b0dc1a86d3419171c14502d0efcec2','{"domain":"default","ip_sort_pref":"default","concurrency_limit":500,"max_messages_per_connection":50,"recipient_minutes":0,"recipient_limit":0,"limit_type":"host","use_tls":"off","bounce_profile":"default"}');
INSERT INTO blob VALUES(X'1a068e3c8ed6310b4d3654722670c144e9e5d314f4b508bf2c8f077831dac2a8','{"name":"WHITELIST","position":1,"hosts":[],"policy":"TRUSTED","comment":"My trusted senders have no rate limiting"}');
INSERT INTO blob VALUES(X'3478919c695057636ba4b64bf989c96d6dbce936566349c083ffa37e1b63828c','{"hostname":"gw.example.com","admin_address":""}');
INSERT INTO blob VALUES(X'3887d9aabe1bca29290eb8543c86a9651497d14aa3b369950a9aa5dfce345fb0','{"name":"root","full_name":"Administrator","role":"administrator"}');
INSERT INTO blob VALUES(X'3e34b19f6a75423cadb0e5c2aea1f43ef8c811f00951bc3bb3641735b08e986d','{"name":"BLACKLIST","position":2,"hosts":[],"policy":"BLOCKED","comment":"Spammers are rejected"}');
INSERT INTO blob VALUES(X'40f5b7ba365377632699c6548942d19368feca6514d23726072f472d55726381','{"name":"BLOCKED","behavior":"reject","max_message_size":0,"max_concurrency":0,"max_msgs_per_session":0,"max_rcpts_per_msg":0,"max_rcpts_per_hour":0,"tls":"default"}');
INSERT INTO blob VALUES(X'46733b29ee3f907a5f53383cb51af4386881b1f2c6cb6a9e169043944d031a99','{"name":"TRUSTED","behavior":"accept","max_message_size":104857600,"max_concurrency":600,"max_msgs_per_session":5000,"max_rcpts_per_msg":5000,"max_rcpts_per_hour":0,"tls":"default"}');
INSERT INTO blob VALUES(X'4e1fc49cd1ff65c66a9f7a175f9175dd9ea90f6534583517a82a6660a0f4426f','{"name":"THROTTLED","behavior":"accept","max_message_size":10485760,"max_concurrency":1,"max_msgs_per_session":10,"max_rcpts_per_msg":25,"max_rcpts_per_hour":20,"tls":"default"}');
INSERT INTO blob VALUES(X'5e06a01fa352b699379b2d26bcc32287f0ce840fb7403a37f71cbdd665d2a71d','{"max_concurrency":2000,"source_address":"","resolvers":[]}');
INSERT INTO blob VALUES(X'72a7754be7477b9a4297ca09cb06f421cf254aeb6db4039dba4d9fd7c99443dc','{"name":"InboundMail","kind":"public","address":"127.0.0.1","port":2525,"certificate":"Demo","default_domain":"","bounce_profile":"Default","max_connections":1000,"backlog":512,"max_message_size":20971520,"max_concurrency":10,"max_msgs_per_session":10,"max_rcpts_per_msg":50,"max_rcpts_per_hour":0,"tls":"off","default_behavior":"accept"}');
INSERT INTO blob VALUES(X'807857dc682046a1316a445db3c13225943a8e043d17ea30633acf20eba19512','{"name":"Default","max_retries":100,"max_queue_seconds":259200,"initial_retry":60,"max_retry":3600,"send_bounces":true,"delay_warnings":false,"delay_interval":14400,"delay_count":1}');
INSERT INTO blob VALUES(X'8ca87839545c13859b4e482e8e9ae41460ea56fdf88293fc03c41d84af8064c7','{"name":"RELAYED","behavior":"relay","max_message_size":104857600,"max_concurrency":1000,"max_msgs_per_session":100000,"max_rcpts_per_msg":10000,"max_rcpts_per_hour":0,"tls":"default"}');
INSERT INTO blob VALUES(X'921f1e996656b9f5508c5ef50fa5eb47465b5f5b1545739d098fd24d4bf62f8a','{"name":"system_logs","type":"system","level":"information","max_size":10485760,"max_files":10}');
INSERT INTO blob VALUES(X'949a1a9238fc1cf24cb8e9a76d2d54b690e80ee3a5468b23cd6cb2978d7deba2','{"name":"OutboundMail","kind":"private","address":"127.0.0.1","port":2587,"certificate":"Demo","default_domain":"","bounce_profile":"Default","max_connections":1000,"backlog":512,"max_message_size":104857600,"max_concurrency":600,"max_msgs_per_session":10000,"max_rcpts_per_msg":10000,"max_rcpts_per_hour":0,"tls":"off","default_behavior":"reject"}');
INSERT INTO blob VALUES(X'9d088e13d61b717b0d6d2948b981e13aaa11d0a935d491742f25c284b31ccfd4','{"certificate":"Demo","send_tls_req_alert":false,"preferred_fallback":"before-220"}');
INSERT INTO blob VALUES(X'ab0c596bb552b71309c3053b7a800ecbe4e26427e4f044f08da2a54322460c9f','{"max_connections":10000,"max_tls_connections":10000,"max_header_lines":1000,"max_received":100,"idle_timeout":300,"session_timeout":900}');
INSERT INTO blob VALUES(X'b6bace7a390a236929537961fa446f5338859a4e1487ce3560dab292bb670a6b','{"name":"ACCEPTED","behavior":"accept","max_message_size":0,"max_concurrency":0,"max_msgs_per_session":0,"max_rcpts_per_msg":0,"max_rcpts_per_hour":0,"tls":"default"}');
INSERT INTO blob VALUES(X'c80f5bbe84b3ee2295d3cd7598e1483df031416834af407c51eaf5084be70948','{"name":"cli_logs","type":"cli","level":"information","max_size":10485760,"max_files":10}');
INSERT INTO blob VALUES(X'd0e7126d220b8d53dd572217110977c6772d180b7abd2cc2f7e5b4d397874be0','{"name":"mail_logs","type":"mail","level":"information","max_size":10485760,"max_files":10}');
INSERT INTO blob VALUES(X'd1205734893483edb6d96d3b059e73f8d053521bb645ec3638526b2b8658371c','{"name":"UNKNOWNLIST","position":4,"hosts":[],"policy":"ACCEPTED","comment":"Reviewed but undecided, continue normal acceptance"}');
INSERT INTO blob VALUES(X'd5e53d69a60d51aff7a0b440f16ca7173b44e3acd7036285da4055fccfb5ee08','{"hostname":"vm.localdomain","admin_address":""}');
INSERT INTO blob VALUES(X'd63fa938d8cd454a35efbd6cc2b12a01df5fd2f055ee100b8f4d9a54a4d2c466','{"name":"Demo","certificate":"-----BEGIN CERTIFICATE-----\nMIIBrjCCAVSgAwIBAgIQWxhLRZQeFt+27ujY5krtezAKBggqhkjOPQQDAjApMRAw\nDgYDVQQKDAdQb3N0ZXJuMRUwEwYDVQQDDAxQb3N0ZXJuIERlbW8wHhcNMjYxMTIx\nMTkyMzE5WhcNMzYxMTE4MTkyODE5WjApMRAwDgYDVQQKDAdQb3N0ZXJuMRUwEwYD\nVQQDDAxQb3N0ZXJuIERlbW8wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQmKn+X\n00OZRSvnndyIaEs291r3EHyPJpskDB3U9VWZQPDYk5BX1j5k3wklgo3g8zy7y71G\nHCJWf6HwkXTzfnoAo14wXDAMBgNVHRMBAf8EAjAAMA4GA1UdDwEB/wQEAwIHgDAd\nBgNVHSUEFjAUBggrBgEFBQcDAQYIKwYBBQUHAwIwHQYDVR0OBBYEFA9TxVIRrUUK\nyoGzlSYq19WOZRDVMAoGCCqGSM49BAMCA0gAMEUCIQD2iYO7W6DocbOzt0czBJXI\n6z+03XR/z+Hp533VoKncOAIgO2K78gUuhWRhWNG79itzMqJgQdS8TYt1+Y8HDy4v\nPdw=\n-----END CERTIFICATE-----\n","intermediates":"","private_key":"sealed:e8f7d8204ab32ae8:5c372465e834298351fdc1260d6dd5b4","request":"","demo":true}');
INSERT INTO blob VALUES(X'e6566ab23f5e27c12204b2a050baed3976878fcbd896e6581d970ab495971131','{"name":"RELAYLIST","position":1,"hosts":["127.0.0.0/8","::1"],"policy":"RELAYED","comment":"Systems that may relay through this gateway"}');
INSERT INTO blob VALUES(X'eff5cc49861ed1cc1ab67e642939bbe164c178b61d7ffb32e91e1a80cd253f63','{"domain":"partner.example","ip_sort_pref":"default","concurrency_limit":0,"max_messages_per_connection":0,"recipient_minutes":0,"recipient_limit":0,"limit_type":"host","use_tls":"require","bounce_profile":"default"}');
INSERT INTO blob VALUES(X'f0c548f809452bb87815c891a6eade070dfd5291b6e77f1f685e8b6cf2500b55','{"name":"SUSPECTLIST","position":3,"hosts":[],"policy":"THROTTLED","comment":"Suspicious senders are throttled"}');
INSERT INTO blob VALUES(X'f36e72874efd85c23ccee304b82eba8b1a75e514f4ed6b58fd9605e875ff7d23','{"domain":"ALL","hosts":["relay.example"]}');
INSERT INTO blob VALUES(X'fcff73d6b2c37c544a9f2a9a2f8cea10be159caa51f01dd7970f2c84532872d6','{"domain":"other.example","ip_sort_pref":"default","concurrency_limit":5,"max_messages_per_connection":0,"recipient_minutes":0,"recipient_limit":0,"limit_type":"host","use_tls":"on","bounce_profile":"default"}');
CREATE TABLE entry(
  scope TEXT NOT NULL,              -- 'machine'; 'cluster' and 'group:NAME' when gateways share settings
  class TEXT NOT NULL, name TEXT NOT NULL,
  from_rev INTEGER NOT NULL, to_rev INTEGER,
  hash BLOB NOT NULL,
  PRIMARY KEY(scope, class, name, from_rev)) STRICT, WITHOUT ROWID;
INSERT INTO entry VALUES('machine','bounce_profile','Default',1,NULL,X'807857dc682046a1316a445db3c13225943a8e043d17ea30633acf20eba19512');
INSERT INTO entry VALUES('machine','certificate','Demo',1,NULL,X'd63fa938d8cd454a35efbd6cc2b12a01df5fd2f055ee100b8f4d9a54a4d2c466');
INSERT INTO entry VALUES('machine','delivery','-',1,NULL,X'5e06a01fa352b699379b2d26bcc32287f0ce840fb7403a37f71cbdd665d2a71d');
INSERT INTO entry VALUES('machine','destination','default',1,NULL,X'0ee12cd56e356fbea48dbd6c889913af43b0dc1a86d3419171c14502d0efcec2');
INSERT INTO entry VALUES('machine','destination','other.example',3,NULL,X'fcff73d6b2c37c544a9f2a9a2f8cea10be159caa51f01dd7970f2c84532872d6');
INSERT INTO entry VALUES('machine','destination','partner.example',2,NULL,X'eff5cc49861ed1cc1ab67e642939bbe164c178b61d7ffb32e91e1a80cd253f63');
INSERT INTO entry VALUES('machine','destination_setup','-',1,NULL,X'9d088e13d61b717b0d6d2948b981e13aaa11d0a935d491742f25c284b31ccfd4');
INSERT INTO entry VALUES('machine','listener','InboundMail',1,NULL,X'72a7754be7477b9a4297ca09cb06f421cf254aeb6db4039dba4d9fd7c99443dc');
INSERT INTO entry VALUES('machine','listener','OutboundMail',1,NULL,X'949a1a9238fc1cf24cb8e9a76d2d54b690e80ee3a5468b23cd6cb2978d7deba2');
INSERT INTO entry VALUES('machine','listener_setup','-',1,NULL,X'ab0c596bb552b71309c3053b7a800ecbe4e26427e4f044f08da2a54322460c9f');
INSERT INTO entry VALUES('machine','log','cli_logs',1,NULL,X'c80f5bbe84b3ee2295d3cd7598e1483df031416834af407c51eaf5084be70948');
INSERT INTO entry VALUES('machine','log','mail_logs',1,NULL,X'd0e7126d220b8d53dd572217110977c6772d180b7abd2cc2f7e5b4d397874be0');
INSERT INTO entry VALUES('machine','log','system_logs',1,NULL,X'921f1e996656b9f5508c5ef50fa5eb47465b5f5b1545739d098fd24d4bf62f8a');
INSERT INTO entry VALUES('machine','mail_policy','InboundMail/ACCEPTED',1,NULL,X'b6bace7a390a236929537961fa446f5338859a4e1487ce3560dab292bb670a6b');
INSERT INTO entry VALUES('machine','mail_policy','InboundMail/BLOCKED',1,NULL,X'40f5b7ba365377632699c6548942d19368feca6514d23726072f472d55726381');
INSERT INTO entry VALUES('machine','mail_policy','InboundMail/THROTTLED',1,NULL,X'4e1fc49cd1ff65c66a9f7a175f9175dd9ea90f6534583517a82a6660a0f4426f');
INSERT INTO entry VALUES('machine','mail_policy','InboundMail/TRUSTED',1,NULL,X'46733b29ee3f907a5f53383cb51af4386881b1f2c6cb6a9e169043944d031a99');
INSERT INTO entry VALUES('machine','mail_policy','OutboundMail/BLOCKED',1,NULL,X'40f5b7ba365377632699c6548942d19368feca6514d23726072f472d55726381');
INSERT INTO entry VALUES('machine','mail_policy','OutboundMail/RELAYED',1,NULL,X'8ca87839545c13859b4e482e8e9ae41460ea56fdf88293fc03c41d84af8064c7');
INSERT INTO entry VALUES('machine','rcpt_access','InboundMail/example.com',3,NULL,X'03943bd8d9c9ef7fb889c1ed77cabb94c57849027c2c0c76d4930a11ba5ff3ef');
INSERT INTO entry VALUES('machine','sender_group','InboundMail/BLACKLIST',1,NULL,X'3e34b19f6a75423cadb0e5c2aea1f43ef8c811f00951bc3bb3641735b08e986d');
INSERT INTO entry VALUES('machine','sender_group','InboundMail/SUSPECTLIST',1,NULL,X'f0c548f809452bb87815c891a6eade070dfd5291b6e77f1f685e8b6cf2500b55');
INSERT INTO entry VALUES('machine','sender_group','InboundMail/UNKNOWNLIST',1,NULL,X'd1205734893483edb6d96d3b059e73f8d053521bb645ec3638526b2b8658371c');
INSERT INTO entry VALUES('machine','sender_group','InboundMail/WHITELIST',1,NULL,X'1a068e3c8ed6310b4d3654722670c144e9e5d314f4b508bf2c8f077831dac2a8');
INSERT INTO entry VALUES('machine','sender_group','OutboundMail/RELAYLIST',1,NULL,X'e6566ab23f5e27c12204b2a050baed3976878fcbd896e6581d970ab495971131');
INSERT INTO entry VALUES('machine','system','-',1,2,X'd5e53d69a60d51aff7a0b440f16ca7173b44e3acd7036285da4055fccfb5ee08');
INSERT INTO entry VALUES('machine','system','-',2,NULL,X'3478919c695057636ba4b64bf989c96d6dbce936566349c083ffa37e1b63828c');
INSERT INTO entry VALUES('machine','user','root',1,NULL,X'3887d9aabe1bca29290eb8543c86a9651497d14aa3b369950a9aa5dfce345fb0');
CREATE TABLE candidate(
  id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, base_rev INTEGER NOT NULL,
  restores INTEGER,                 -- a rollback was staged here
  created_us INTEGER NOT NULL, touched_us INTEGER NOT NULL) STRICT;
INSERT INTO candidate VALUES(3,'root',3,NULL,1795289302497428,1795289302497428);
CREATE TABLE change(
  cand INTEGER NOT NULL REFERENCES candidate ON DELETE CASCADE,
  scope TEXT NOT NULL, class TEXT NOT NULL, name TEXT NOT NULL,
  base_hash BLOB, new_hash BLOB,    -- NULL: absent
  schema_ver INTEGER NOT NULL,      -- of the two bodies
  PRIMARY KEY(cand, scope, class, name)) STRICT, WITHOUT ROWID;
INSERT INTO change VALUES(3,'machine','smtp_route','ALL',NULL,X'f36e72874efd85c23ccee304b82eba8b1a75e514f4ed6b58fd9605e875ff7d23',1);
CREATE TABLE confirm(               -- at most one row: the armed timer of a commit that waits for its confirmation
  one INTEGER PRIMARY KEY CHECK(one = 1), rev INTEGER NOT NULL, prev_rev INTEGER NOT NULL,
  owner TEXT NOT NULL, owner_session TEXT, need_new_session INTEGER NOT NULL,
  boot_id TEXT NOT NULL, deadline_boottime_ms INTEGER NOT NULL, deadline_wall_us INTEGER NOT NULL) STRICT;
CREATE TABLE secret(                -- bodies refer to it as "sealed:ID:FP"
  id TEXT PRIMARY KEY, kind TEXT NOT NULL,
  fp TEXT NOT NULL,                 -- keyed digest of kind and plain text
  wrapped_dek BLOB NOT NULL, nonce BLOB NOT NULL, ct BLOB NOT NULL,
  created_us INTEGER NOT NULL) STRICT;
INSERT INTO secret VALUES('e8f7d8204ab32ae8','certificate.private_key','5c372465e834298351fdc1260d6dd5b4',X'f5b3d296d86f35ec1ba79e8fbfca7fb6579ba040123077fd5ad818d2d562b7b7ad0878ff9087617b0700e1456952579b6d5f92d13aef621e79e6260c',X'59fdff057936acacd2215d5f',X'ac99f9faef79660cb9161c6f04774bffad2d33d0877e6e5bc244c177e80e0c9fa7a8ce248ed6e697ee3cf86e521e4ae53f803bf3fce5ae9abe8768e1667c28da7fa0a775786fbeb1b1f7246ae5a538d39d91271a44b421fff3784f7d908199f6df6a0d98dada1f18ca15c9cd0957698291866bfe5787abddd6ee53e93444eeb6fc2131404ab79f47a5840f87417c9b09ab285a21a01f49789e84658225cf330ae457102192e8e4fb37e06b9cc2e9085bc215160ecf5aee19fdd6575320b955d89a528e1a08745ae34372fac57b5371cb24b9dfb89a95b08b7b9e605a3cafde3241004d9f25209db27c5ca1cd7069f7c87ecbf1da6248a0763865149a8a9a4b685c',1795289299703223);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('revision',3);
INSERT INTO sqlite_sequence VALUES('candidate',3);
CREATE UNIQUE INDEX one_head ON revision((1)) WHERE state IN('applying','active');
CREATE UNIQUE INDEX entry_live ON entry(scope, class, name) WHERE to_rev IS NULL;
CREATE INDEX entry_from ON entry(from_rev);
CREATE INDEX entry_to ON entry(to_rev) WHERE to_rev IS NOT NULL;
CREATE UNIQUE INDEX secret_fp ON secret(fp);
CREATE VIEW v_system AS SELECT name AS object,
  CAST(json_extract(body,'$.hostname') AS TEXT) AS "hostname",
  CAST(json_extract(body,'$.admin_address') AS TEXT) AS "admin_address"
FROM entry JOIN blob USING(hash) WHERE class='system' AND to_rev IS NULL;
CREATE VIEW v_user AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.full_name') AS TEXT) AS "full_name",
  CAST(json_extract(body,'$.role') AS TEXT) AS "role"
FROM entry JOIN blob USING(hash) WHERE class='user' AND to_rev IS NULL;
CREATE VIEW v_log AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.type') AS TEXT) AS "type",
  CAST(json_extract(body,'$.level') AS TEXT) AS "level",
  CAST(json_extract(body,'$.max_size') AS INTEGER) AS "max_size",
  CAST(json_extract(body,'$.max_files') AS INTEGER) AS "max_files"
FROM entry JOIN blob USING(hash) WHERE class='log' AND to_rev IS NULL;
CREATE VIEW v_certificate AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.intermediates') AS TEXT) AS "intermediates",
  CAST(json_extract(body,'$.private_key') AS TEXT) AS "private_key",
  CAST(json_extract(body,'$.request') AS TEXT) AS "request",
  CAST(json_extract(body,'$.demo') AS INTEGER) AS "demo"
FROM entry JOIN blob USING(hash) WHERE class='certificate' AND to_rev IS NULL;
CREATE VIEW v_bounce_profile AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.max_retries') AS INTEGER) AS "max_retries",
  CAST(json_extract(body,'$.max_queue_seconds') AS INTEGER) AS "max_queue_seconds",
  CAST(json_extract(body,'$.initial_retry') AS INTEGER) AS "initial_retry",
  CAST(json_extract(body,'$.max_retry') AS INTEGER) AS "max_retry",
  CAST(json_extract(body,'$.send_bounces') AS INTEGER) AS "send_bounces",
  CAST(json_extract(body,'$.delay_warnings') AS INTEGER) AS "delay_warnings",
  CAST(json_extract(body,'$.delay_interval') AS INTEGER) AS "delay_interval",
  CAST(json_extract(body,'$.delay_count') AS INTEGER) AS "delay_count"
FROM entry JOIN blob USING(hash) WHERE class='bounce_profile' AND to_rev IS NULL;
CREATE VIEW v_listener_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.max_tls_connections') AS INTEGER) AS "max_tls_connections",
  CAST(json_extract(body,'$.max_header_lines') AS INTEGER) AS "max_header_lines",
  CAST(json_extract(body,'$.max_received') AS INTEGER) AS "max_received",
  CAST(json_extract(body,'$.idle_timeout') AS INTEGER) AS "idle_timeout",
  CAST(json_extract(body,'$.session_timeout') AS INTEGER) AS "session_timeout"
FROM entry JOIN blob USING(hash) WHERE class='listener_setup' AND to_rev IS NULL;
CREATE VIEW v_listener AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind",
  CAST(json_extract(body,'$.address') AS TEXT) AS "address",
  CAST(json_extract(body,'$.port') AS INTEGER) AS "port",
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.default_domain') AS TEXT) AS "default_domain",
  CAST(json_extract(body,'$.bounce_profile') AS TEXT) AS "bounce_profile",
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.backlog') AS INTEGER) AS "backlog",
  CAST(json_extract(body,'$.max_message_size') AS INTEGER) AS "max_message_size",
  CAST(json_extract(body,'$.max_concurrency') AS INTEGER) AS "max_concurrency",
  CAST(json_extract(body,'$.max_msgs_per_session') AS INTEGER) AS "max_msgs_per_session",
  CAST(json_extract(body,'$.max_rcpts_per_msg') AS INTEGER) AS "max_rcpts_per_msg",
  CAST(json_extract(body,'$.max_rcpts_per_hour') AS INTEGER) AS "max_rcpts_per_hour",
  CAST(json_extract(body,'$.tls') AS TEXT) AS "tls",
  CAST(json_extract(body,'$.default_behavior') AS TEXT) AS "default_behavior"
FROM entry JOIN blob USING(hash) WHERE class='listener' AND to_rev IS NULL;
CREATE VIEW v_mail_policy AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.behavior') AS TEXT) AS "behavior",
  CAST(json_extract(body,'$.max_message_size') AS INTEGER) AS "max_message_size",
  CAST(json_extract(body,'$.max_concurrency') AS INTEGER) AS "max_concurrency",
  CAST(json_extract(body,'$.max_msgs_per_session') AS INTEGER) AS "max_msgs_per_session",
  CAST(json_extract(body,'$.max_rcpts_per_msg') AS INTEGER) AS "max_rcpts_per_msg",
  CAST(json_extract(body,'$.max_rcpts_per_hour') AS INTEGER) AS "max_rcpts_per_hour",
  CAST(json_extract(body,'$.tls') AS TEXT) AS "tls"
FROM entry JOIN blob USING(hash) WHERE class='mail_policy' AND to_rev IS NULL;
CREATE VIEW v_sender_group AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.position') AS INTEGER) AS "position",
  CAST(json_extract(body,'$.hosts') AS TEXT) AS "hosts",
  CAST(json_extract(body,'$.policy') AS TEXT) AS "policy",
  CAST(json_extract(body,'$.comment') AS TEXT) AS "comment"
FROM entry JOIN blob USING(hash) WHERE class='sender_group' AND to_rev IS NULL;
CREATE VIEW v_rcpt_access AS SELECT name AS object,
  CAST(json_extract(body,'$.address') AS TEXT) AS "address",
  CAST(json_extract(body,'$.action') AS TEXT) AS "action"
FROM entry JOIN blob USING(hash) WHERE class='rcpt_access' AND to_rev IS NULL;
CREATE VIEW v_destination_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.send_tls_req_alert') AS INTEGER) AS "send_tls_req_alert",
  CAST(json_extract(body,'$.preferred_fallback') AS TEXT) AS "preferred_fallback"
FROM entry JOIN blob USING(hash) WHERE class='destination_setup' AND to_rev IS NULL;
CREATE VIEW v_destination AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.ip_sort_pref') AS TEXT) AS "ip_sort_pref",
  CAST(json_extract(body,'$.concurrency_limit') AS INTEGER) AS "concurrency_limit",
  CAST(json_extract(body,'$.max_messages_per_connection') AS INTEGER) AS "max_messages_per_connection",
  CAST(json_extract(body,'$.recipient_minutes') AS INTEGER) AS "recipient_minutes",
  CAST(json_extract(body,'$.recipient_limit') AS INTEGER) AS "recipient_limit",
  CAST(json_extract(body,'$.limit_type') AS TEXT) AS "limit_type",
  CAST(json_extract(body,'$.use_tls') AS TEXT) AS "use_tls",
  CAST(json_extract(body,'$.bounce_profile') AS TEXT) AS "bounce_profile"
FROM entry JOIN blob USING(hash) WHERE class='destination' AND to_rev IS NULL;
CREATE VIEW v_smtp_route AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.hosts') AS TEXT) AS "hosts"
FROM entry JOIN blob USING(hash) WHERE class='smtp_route' AND to_rev IS NULL;
CREATE VIEW v_delivery AS SELECT name AS object,
  CAST(json_extract(body,'$.max_concurrency') AS INTEGER) AS "max_concurrency",
  CAST(json_extract(body,'$.source_address') AS TEXT) AS "source_address",
  CAST(json_extract(body,'$.resolvers') AS TEXT) AS "resolvers"
FROM entry JOIN blob USING(hash) WHERE class='delivery' AND to_rev IS NULL;
COMMIT;
