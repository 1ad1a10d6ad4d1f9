-- Generated from schema/*.def by make; do not edit. One view per section over the running
-- configuration of config.db.
CREATE VIEW v_system AS SELECT name AS object,
  CAST(json_extract(body,'$.hostname') AS TEXT) AS "hostname",
  CAST(json_extract(body,'$.admin_address') AS TEXT) AS "admin_address"
FROM entry JOIN blob USING(hash) WHERE class='system' AND to_rev IS NULL;
CREATE VIEW v_user AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.full_name') AS TEXT) AS "full_name",
  CAST(json_extract(body,'$.role') AS TEXT) AS "role"
FROM entry JOIN blob USING(hash) WHERE class='user' AND to_rev IS NULL;
CREATE VIEW v_alert_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.initial') AS INTEGER) AS "initial",
  CAST(json_extract(body,'$.maximum') AS INTEGER) AS "maximum",
  CAST(json_extract(body,'$.stored') AS INTEGER) AS "stored",
  CAST(json_extract(body,'$.from') AS TEXT) AS "from",
  CAST(json_extract(body,'$.subject') AS TEXT) AS "subject"
FROM entry JOIN blob USING(hash) WHERE class='alert_setup' AND to_rev IS NULL;
CREATE VIEW v_alert_recipient AS SELECT name AS object,
  CAST(json_extract(body,'$.address') AS TEXT) AS "address",
  CAST(json_extract(body,'$.classes') AS TEXT) AS "classes",
  CAST(json_extract(body,'$.severities') AS TEXT) AS "severities"
FROM entry JOIN blob USING(hash) WHERE class='alert_recipient' AND to_rev IS NULL;
CREATE VIEW v_log AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.type') AS TEXT) AS "type",
  CAST(json_extract(body,'$.level') AS TEXT) AS "level",
  CAST(json_extract(body,'$.max_size') AS INTEGER) AS "max_size",
  CAST(json_extract(body,'$.max_files') AS INTEGER) AS "max_files",
  CAST(json_extract(body,'$.rollover_interval') AS INTEGER) AS "rollover_interval",
  CAST(json_extract(body,'$.rollover_at') AS TEXT) AS "rollover_at",
  CAST(json_extract(body,'$.alert_removed') AS INTEGER) AS "alert_removed",
  CAST(json_extract(body,'$.method') AS TEXT) AS "method",
  CAST(json_extract(body,'$.syslog_host') AS TEXT) AS "syslog_host",
  CAST(json_extract(body,'$.syslog_port') AS INTEGER) AS "syslog_port",
  CAST(json_extract(body,'$.syslog_protocol') AS TEXT) AS "syslog_protocol",
  CAST(json_extract(body,'$.syslog_facility') AS TEXT) AS "syslog_facility"
FROM entry JOIN blob USING(hash) WHERE class='log' AND to_rev IS NULL;
CREATE VIEW v_log_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.metrics_frequency') AS INTEGER) AS "metrics_frequency",
  CAST(json_extract(body,'$.message_ids') AS INTEGER) AS "message_ids",
  CAST(json_extract(body,'$.remote_responses') AS INTEGER) AS "remote_responses",
  CAST(json_extract(body,'$.subjects') AS INTEGER) AS "subjects",
  CAST(json_extract(body,'$.headers') AS TEXT) AS "headers"
FROM entry JOIN blob USING(hash) WHERE class='log_setup' AND to_rev IS NULL;
CREATE VIEW v_certificate AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.intermediates') AS TEXT) AS "intermediates",
  CAST(json_extract(body,'$.private_key') AS TEXT) AS "private_key",
  CAST(json_extract(body,'$.request') AS TEXT) AS "request",
  CAST(json_extract(body,'$.demo') AS INTEGER) AS "demo"
FROM entry JOIN blob USING(hash) WHERE class='certificate' AND to_rev IS NULL;
CREATE VIEW v_authority AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.enabled') AS INTEGER) AS "enabled"
FROM entry JOIN blob USING(hash) WHERE class='authority' AND to_rev IS NULL;
CREATE VIEW v_authority_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.system_list') AS INTEGER) AS "system_list",
  CAST(json_extract(body,'$.custom_list') AS INTEGER) AS "custom_list",
  CAST(json_extract(body,'$.check_ca_flag') AS INTEGER) AS "check_ca_flag"
FROM entry JOIN blob USING(hash) WHERE class='authority_setup' AND to_rev IS NULL;
CREATE VIEW v_crl_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.inbound') AS INTEGER) AS "inbound",
  CAST(json_extract(body,'$.outbound') AS INTEGER) AS "outbound",
  CAST(json_extract(body,'$.web') AS INTEGER) AS "web",
  CAST(json_extract(body,'$.stale') AS TEXT) AS "stale"
FROM entry JOIN blob USING(hash) WHERE class='crl_setup' AND to_rev IS NULL;
CREATE VIEW v_crl_source AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.format') AS TEXT) AS "format",
  CAST(json_extract(body,'$.url') AS TEXT) AS "url",
  CAST(json_extract(body,'$.url2') AS TEXT) AS "url2",
  CAST(json_extract(body,'$.auto_update') AS INTEGER) AS "auto_update",
  CAST(json_extract(body,'$.schedule') AS TEXT) AS "schedule",
  CAST(json_extract(body,'$.time') AS TEXT) AS "time",
  CAST(json_extract(body,'$.enabled') AS INTEGER) AS "enabled"
FROM entry JOIN blob USING(hash) WHERE class='crl_source' AND to_rev IS NULL;
CREATE VIEW v_ldap_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.source_address') AS TEXT) AS "source_address"
FROM entry JOIN blob USING(hash) WHERE class='ldap_setup' AND to_rev IS NULL;
CREATE VIEW v_ldap_server AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.hosts') AS TEXT) AS "hosts",
  CAST(json_extract(body,'$.order') AS TEXT) AS "order",
  CAST(json_extract(body,'$.security') AS TEXT) AS "security",
  CAST(json_extract(body,'$.verify') AS INTEGER) AS "verify",
  CAST(json_extract(body,'$.auth') AS TEXT) AS "auth",
  CAST(json_extract(body,'$.bind_dn') AS TEXT) AS "bind_dn",
  CAST(json_extract(body,'$.bind_password') AS TEXT) AS "bind_password",
  CAST(json_extract(body,'$.server_type') AS TEXT) AS "server_type",
  CAST(json_extract(body,'$.port') AS INTEGER) AS "port",
  CAST(json_extract(body,'$.base') AS TEXT) AS "base",
  CAST(json_extract(body,'$.connect_timeout') AS INTEGER) AS "connect_timeout",
  CAST(json_extract(body,'$.query_timeout') AS INTEGER) AS "query_timeout",
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.cache_ttl') AS INTEGER) AS "cache_ttl",
  CAST(json_extract(body,'$.cache_size') AS INTEGER) AS "cache_size"
FROM entry JOIN blob USING(hash) WHERE class='ldap_server' AND to_rev IS NULL;
CREATE VIEW v_ldap_query AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.server') AS TEXT) AS "server",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind",
  CAST(json_extract(body,'$.filter') AS TEXT) AS "filter",
  CAST(json_extract(body,'$.base') AS TEXT) AS "base",
  CAST(json_extract(body,'$.method') AS TEXT) AS "method",
  CAST(json_extract(body,'$.password_attribute') AS TEXT) AS "password_attribute",
  CAST(json_extract(body,'$.allowance') AS TEXT) AS "allowance",
  CAST(json_extract(body,'$.user_attribute') AS TEXT) AS "user_attribute",
  CAST(json_extract(body,'$.fields') AS TEXT) AS "fields"
FROM entry JOIN blob USING(hash) WHERE class='ldap_query' AND to_rev IS NULL;
CREATE VIEW v_smtpauth_profile AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind",
  CAST(json_extract(body,'$.query') AS TEXT) AS "query",
  CAST(json_extract(body,'$.check_allowed') AS INTEGER) AS "check_allowed",
  CAST(json_extract(body,'$.refused') AS TEXT) AS "refused",
  CAST(json_extract(body,'$.refused_code') AS INTEGER) AS "refused_code",
  CAST(json_extract(body,'$.refused_text') AS TEXT) AS "refused_text",
  CAST(json_extract(body,'$.cert_query') AS TEXT) AS "cert_query",
  CAST(json_extract(body,'$.allow_auth') AS INTEGER) AS "allow_auth",
  CAST(json_extract(body,'$.fallback') AS TEXT) AS "fallback",
  CAST(json_extract(body,'$.mechanisms') AS TEXT) AS "mechanisms",
  CAST(json_extract(body,'$.username') AS TEXT) AS "username",
  CAST(json_extract(body,'$.password') AS TEXT) AS "password"
FROM entry JOIN blob USING(hash) WHERE class='smtpauth_profile' AND to_rev IS NULL;
CREATE VIEW v_smtpauth_server AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.position') AS INTEGER) AS "position",
  CAST(json_extract(body,'$.source_address') AS TEXT) AS "source_address",
  CAST(json_extract(body,'$.require_tls') AS INTEGER) AS "require_tls",
  CAST(json_extract(body,'$.verify') AS INTEGER) AS "verify",
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.plain') AS INTEGER) AS "plain",
  CAST(json_extract(body,'$.login') AS INTEGER) AS "login"
FROM entry JOIN blob USING(hash) WHERE class='smtpauth_server' AND to_rev IS NULL;
CREATE VIEW v_bounce_template AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.text') AS TEXT) AS "text"
FROM entry JOIN blob USING(hash) WHERE class='bounce_template' AND to_rev IS NULL;
CREATE VIEW v_bounce_profile AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.max_retries') AS INTEGER) AS "max_retries",
  CAST(json_extract(body,'$.max_queue_seconds') AS INTEGER) AS "max_queue_seconds",
  CAST(json_extract(body,'$.initial_retry') AS INTEGER) AS "initial_retry",
  CAST(json_extract(body,'$.max_retry') AS INTEGER) AS "max_retry",
  CAST(json_extract(body,'$.send_bounces') AS TEXT) AS "send_bounces",
  CAST(json_extract(body,'$.dsn_format') AS TEXT) AS "dsn_format",
  CAST(json_extract(body,'$.failure_subject') AS TEXT) AS "failure_subject",
  CAST(json_extract(body,'$.template') AS TEXT) AS "template",
  CAST(json_extract(body,'$.language_templates') AS TEXT) AS "language_templates",
  CAST(json_extract(body,'$.parse_status') AS TEXT) AS "parse_status",
  CAST(json_extract(body,'$.delay_warnings') AS TEXT) AS "delay_warnings",
  CAST(json_extract(body,'$.delay_interval') AS INTEGER) AS "delay_interval",
  CAST(json_extract(body,'$.delay_count') AS INTEGER) AS "delay_count",
  CAST(json_extract(body,'$.delay_subject') AS TEXT) AS "delay_subject",
  CAST(json_extract(body,'$.alternate') AS TEXT) AS "alternate"
FROM entry JOIN blob USING(hash) WHERE class='bounce_profile' AND to_rev IS NULL;
CREATE VIEW v_bounce_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.max_copy') AS INTEGER) AS "max_copy",
  CAST(json_extract(body,'$.initial_host_retry') AS INTEGER) AS "initial_host_retry",
  CAST(json_extract(body,'$.max_host_retry') AS INTEGER) AS "max_host_retry"
FROM entry JOIN blob USING(hash) WHERE class='bounce_setup' AND to_rev IS NULL;
CREATE VIEW v_bv_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.invalid') AS TEXT) AS "invalid",
  CAST(json_extract(body,'$.header') AS TEXT) AS "header"
FROM entry JOIN blob USING(hash) WHERE class='bv_setup' AND to_rev IS NULL;
CREATE VIEW v_bv_key AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.key') AS TEXT) AS "key",
  CAST(json_extract(body,'$.created') AS INTEGER) AS "created"
FROM entry JOIN blob USING(hash) WHERE class='bv_key' AND to_rev IS NULL;
CREATE VIEW v_listener_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.max_tls_connections') AS INTEGER) AS "max_tls_connections",
  CAST(json_extract(body,'$.max_header_lines') AS INTEGER) AS "max_header_lines",
  CAST(json_extract(body,'$.max_received') AS INTEGER) AS "max_received",
  CAST(json_extract(body,'$.idle_timeout') AS INTEGER) AS "idle_timeout",
  CAST(json_extract(body,'$.session_timeout') AS INTEGER) AS "session_timeout",
  CAST(json_extract(body,'$.add_message_id') AS INTEGER) AS "add_message_id",
  CAST(json_extract(body,'$.reject_at_rcpt') AS INTEGER) AS "reject_at_rcpt",
  CAST(json_extract(body,'$.auth_failures_session') AS INTEGER) AS "auth_failures_session",
  CAST(json_extract(body,'$.auth_failures_host') AS INTEGER) AS "auth_failures_host",
  CAST(json_extract(body,'$.auth_lockout') AS INTEGER) AS "auth_lockout"
FROM entry JOIN blob USING(hash) WHERE class='listener_setup' AND to_rev IS NULL;
CREATE VIEW v_listener AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind",
  CAST(json_extract(body,'$.protocol') AS TEXT) AS "protocol",
  CAST(json_extract(body,'$.address') AS TEXT) AS "address",
  CAST(json_extract(body,'$.port') AS INTEGER) AS "port",
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.certificates') AS TEXT) AS "certificates",
  CAST(json_extract(body,'$.default_domain') AS TEXT) AS "default_domain",
  CAST(json_extract(body,'$.bounce_profile') AS TEXT) AS "bounce_profile",
  CAST(json_extract(body,'$.add_received') AS INTEGER) AS "add_received",
  CAST(json_extract(body,'$.smtp_auth') AS TEXT) AS "smtp_auth",
  CAST(json_extract(body,'$.max_connections') AS INTEGER) AS "max_connections",
  CAST(json_extract(body,'$.backlog') AS INTEGER) AS "backlog",
  CAST(json_extract(body,'$.max_message_size') AS INTEGER) AS "max_message_size",
  CAST(json_extract(body,'$.max_concurrency') AS INTEGER) AS "max_concurrency",
  CAST(json_extract(body,'$.max_msgs_per_session') AS INTEGER) AS "max_msgs_per_session",
  CAST(json_extract(body,'$.max_rcpts_per_msg') AS INTEGER) AS "max_rcpts_per_msg",
  CAST(json_extract(body,'$.max_rcpts_per_hour') AS INTEGER) AS "max_rcpts_per_hour",
  CAST(json_extract(body,'$.tls') AS TEXT) AS "tls",
  CAST(json_extract(body,'$.verify_client') AS INTEGER) AS "verify_client",
  CAST(json_extract(body,'$.auth') AS TEXT) AS "auth",
  CAST(json_extract(body,'$.auth_needs_tls') AS INTEGER) AS "auth_needs_tls",
  CAST(json_extract(body,'$.tls_senders') AS TEXT) AS "tls_senders",
  CAST(json_extract(body,'$.banner_host') AS TEXT) AS "banner_host",
  CAST(json_extract(body,'$.accept_code') AS INTEGER) AS "accept_code",
  CAST(json_extract(body,'$.accept_text') AS TEXT) AS "accept_text",
  CAST(json_extract(body,'$.reject_code') AS INTEGER) AS "reject_code",
  CAST(json_extract(body,'$.reject_text') AS TEXT) AS "reject_text",
  CAST(json_extract(body,'$.limit_code') AS INTEGER) AS "limit_code",
  CAST(json_extract(body,'$.limit_text') AS TEXT) AS "limit_text",
  CAST(json_extract(body,'$.max_rcpts_per_sender') AS INTEGER) AS "max_rcpts_per_sender",
  CAST(json_extract(body,'$.sender_minutes') AS INTEGER) AS "sender_minutes",
  CAST(json_extract(body,'$.dhap_limit') AS INTEGER) AS "dhap_limit",
  CAST(json_extract(body,'$.dhap_action') AS TEXT) AS "dhap_action",
  CAST(json_extract(body,'$.dhap_code') AS INTEGER) AS "dhap_code",
  CAST(json_extract(body,'$.dhap_text') AS TEXT) AS "dhap_text",
  CAST(json_extract(body,'$.line_endings') AS TEXT) AS "line_endings",
  CAST(json_extract(body,'$.untagged_bounces') AS INTEGER) AS "untagged_bounces",
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
  CAST(json_extract(body,'$.tls') AS TEXT) AS "tls",
  CAST(json_extract(body,'$.verify_client') AS TEXT) AS "verify_client",
  CAST(json_extract(body,'$.auth') AS TEXT) AS "auth",
  CAST(json_extract(body,'$.auth_needs_tls') AS TEXT) AS "auth_needs_tls",
  CAST(json_extract(body,'$.tls_senders') AS TEXT) AS "tls_senders",
  CAST(json_extract(body,'$.banner_host') AS TEXT) AS "banner_host",
  CAST(json_extract(body,'$.accept_code') AS INTEGER) AS "accept_code",
  CAST(json_extract(body,'$.accept_text') AS TEXT) AS "accept_text",
  CAST(json_extract(body,'$.reject_code') AS INTEGER) AS "reject_code",
  CAST(json_extract(body,'$.reject_text') AS TEXT) AS "reject_text",
  CAST(json_extract(body,'$.limit_code') AS INTEGER) AS "limit_code",
  CAST(json_extract(body,'$.limit_text') AS TEXT) AS "limit_text",
  CAST(json_extract(body,'$.max_rcpts_per_sender') AS INTEGER) AS "max_rcpts_per_sender",
  CAST(json_extract(body,'$.sender_minutes') AS INTEGER) AS "sender_minutes",
  CAST(json_extract(body,'$.dhap_limit') AS INTEGER) AS "dhap_limit",
  CAST(json_extract(body,'$.dhap_action') AS TEXT) AS "dhap_action",
  CAST(json_extract(body,'$.dhap_code') AS INTEGER) AS "dhap_code",
  CAST(json_extract(body,'$.dhap_text') AS TEXT) AS "dhap_text",
  CAST(json_extract(body,'$.line_endings') AS TEXT) AS "line_endings",
  CAST(json_extract(body,'$.untagged_bounces') AS TEXT) AS "untagged_bounces"
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
  CAST(json_extract(body,'$.action') AS TEXT) AS "action",
  CAST(json_extract(body,'$.code') AS INTEGER) AS "code",
  CAST(json_extract(body,'$.text') AS TEXT) AS "text",
  CAST(json_extract(body,'$.bypass') AS INTEGER) AS "bypass"
FROM entry JOIN blob USING(hash) WHERE class='rcpt_access' AND to_rev IS NULL;
CREATE VIEW v_ssl_settings AS SELECT name AS object,
  CAST(json_extract(body,'$.gui_min') AS TEXT) AS "gui_min",
  CAST(json_extract(body,'$.gui_max') AS TEXT) AS "gui_max",
  CAST(json_extract(body,'$.gui_ciphers') AS TEXT) AS "gui_ciphers",
  CAST(json_extract(body,'$.gui_groups') AS TEXT) AS "gui_groups",
  CAST(json_extract(body,'$.inbound_min') AS TEXT) AS "inbound_min",
  CAST(json_extract(body,'$.inbound_max') AS TEXT) AS "inbound_max",
  CAST(json_extract(body,'$.inbound_ciphers') AS TEXT) AS "inbound_ciphers",
  CAST(json_extract(body,'$.inbound_groups') AS TEXT) AS "inbound_groups",
  CAST(json_extract(body,'$.outbound_min') AS TEXT) AS "outbound_min",
  CAST(json_extract(body,'$.outbound_max') AS TEXT) AS "outbound_max",
  CAST(json_extract(body,'$.outbound_ciphers') AS TEXT) AS "outbound_ciphers",
  CAST(json_extract(body,'$.outbound_groups') AS TEXT) AS "outbound_groups",
  CAST(json_extract(body,'$.other_min') AS TEXT) AS "other_min",
  CAST(json_extract(body,'$.peer_cert_fqdn') AS INTEGER) AS "peer_cert_fqdn",
  CAST(json_extract(body,'$.peer_cert_x509') AS INTEGER) AS "peer_cert_x509"
FROM entry JOIN blob USING(hash) WHERE class='ssl_settings' AND to_rev IS NULL;
CREATE VIEW v_destination_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.certificate') AS TEXT) AS "certificate",
  CAST(json_extract(body,'$.send_tls_req_alert') AS INTEGER) AS "send_tls_req_alert",
  CAST(json_extract(body,'$.preferred_fallback') AS TEXT) AS "preferred_fallback",
  CAST(json_extract(body,'$.tls_failure_memory') AS INTEGER) AS "tls_failure_memory"
FROM entry JOIN blob USING(hash) WHERE class='destination_setup' AND to_rev IS NULL;
CREATE VIEW v_destination AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.ip_sort_pref') AS TEXT) AS "ip_sort_pref",
  CAST(json_extract(body,'$.concurrency_limit') AS INTEGER) AS "concurrency_limit",
  CAST(json_extract(body,'$.max_messages_per_connection') AS INTEGER) AS "max_messages_per_connection",
  CAST(json_extract(body,'$.recipient_minutes') AS INTEGER) AS "recipient_minutes",
  CAST(json_extract(body,'$.recipient_limit') AS INTEGER) AS "recipient_limit",
  CAST(json_extract(body,'$.limit_type') AS TEXT) AS "limit_type",
  CAST(json_extract(body,'$.limit_apply') AS TEXT) AS "limit_apply",
  CAST(json_extract(body,'$.use_tls') AS TEXT) AS "use_tls",
  CAST(json_extract(body,'$.dane') AS TEXT) AS "dane",
  CAST(json_extract(body,'$.mta_sts') AS TEXT) AS "mta_sts",
  CAST(json_extract(body,'$.bounce_verification') AS TEXT) AS "bounce_verification",
  CAST(json_extract(body,'$.bounce_profile') AS TEXT) AS "bounce_profile"
FROM entry JOIN blob USING(hash) WHERE class='destination' AND to_rev IS NULL;
CREATE VIEW v_tls_exception AS SELECT name AS object,
  CAST(json_extract(body,'$.name') AS TEXT) AS "name",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind",
  CAST(json_extract(body,'$.target') AS TEXT) AS "target",
  CAST(json_extract(body,'$.reason') AS TEXT) AS "reason",
  CAST(json_extract(body,'$.owner') AS TEXT) AS "owner",
  CAST(json_extract(body,'$.expires') AS TEXT) AS "expires"
FROM entry JOIN blob USING(hash) WHERE class='tls_exception' AND to_rev IS NULL;
CREATE VIEW v_smtp_route AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.hosts') AS TEXT) AS "hosts",
  CAST(json_extract(body,'$.auth_profile') AS TEXT) AS "auth_profile"
FROM entry JOIN blob USING(hash) WHERE class='smtp_route' AND to_rev IS NULL;
CREATE VIEW v_dns_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.source') AS TEXT) AS "source",
  CAST(json_extract(body,'$.validation') AS TEXT) AS "validation",
  CAST(json_extract(body,'$.reverse_timeout') AS INTEGER) AS "reverse_timeout",
  CAST(json_extract(body,'$.min_ttl') AS INTEGER) AS "min_ttl",
  CAST(json_extract(body,'$.max_ttl') AS INTEGER) AS "max_ttl",
  CAST(json_extract(body,'$.cache_size') AS INTEGER) AS "cache_size",
  CAST(json_extract(body,'$.health_interval') AS INTEGER) AS "health_interval"
FROM entry JOIN blob USING(hash) WHERE class='dns_setup' AND to_rev IS NULL;
CREATE VIEW v_dns_server AS SELECT name AS object,
  CAST(json_extract(body,'$.address') AS TEXT) AS "address",
  CAST(json_extract(body,'$.priority') AS INTEGER) AS "priority"
FROM entry JOIN blob USING(hash) WHERE class='dns_server' AND to_rev IS NULL;
CREATE VIEW v_dns_domain AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.servers') AS TEXT) AS "servers",
  CAST(json_extract(body,'$.kind') AS TEXT) AS "kind"
FROM entry JOIN blob USING(hash) WHERE class='dns_domain' AND to_rev IS NULL;
CREATE VIEW v_dns_anchor AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.records') AS TEXT) AS "records"
FROM entry JOIN blob USING(hash) WHERE class='dns_anchor' AND to_rev IS NULL;
CREATE VIEW v_dns_untrusted AS SELECT name AS object,
  CAST(json_extract(body,'$.domain') AS TEXT) AS "domain",
  CAST(json_extract(body,'$.reason') AS TEXT) AS "reason",
  CAST(json_extract(body,'$.expires') AS TEXT) AS "expires"
FROM entry JOIN blob USING(hash) WHERE class='dns_untrusted' AND to_rev IS NULL;
CREATE VIEW v_delivery AS SELECT name AS object,
  CAST(json_extract(body,'$.max_concurrency') AS INTEGER) AS "max_concurrency",
  CAST(json_extract(body,'$.source_address') AS TEXT) AS "source_address",
  CAST(json_extract(body,'$.possible_delivery') AS INTEGER) AS "possible_delivery",
  CAST(json_extract(body,'$.max_tls_concurrency') AS INTEGER) AS "max_tls_concurrency"
FROM entry JOIN blob USING(hash) WHERE class='delivery' AND to_rev IS NULL;
CREATE VIEW v_resource_limits AS SELECT name AS object,
  CAST(json_extract(body,'$.max_messages') AS INTEGER) AS "max_messages",
  CAST(json_extract(body,'$.max_queue_size') AS INTEGER) AS "max_queue_size",
  CAST(json_extract(body,'$.min_free_space') AS INTEGER) AS "min_free_space",
  CAST(json_extract(body,'$.max_memory') AS INTEGER) AS "max_memory",
  CAST(json_extract(body,'$.slow_at') AS INTEGER) AS "slow_at",
  CAST(json_extract(body,'$.resume_at') AS INTEGER) AS "resume_at",
  CAST(json_extract(body,'$.kept_days') AS INTEGER) AS "kept_days",
  CAST(json_extract(body,'$.kept_space') AS INTEGER) AS "kept_space"
FROM entry JOIN blob USING(hash) WHERE class='resource_limits' AND to_rev IS NULL;
CREATE VIEW v_update AS SELECT name AS object,
  CAST(json_extract(body,'$.proxy_host') AS TEXT) AS "proxy_host",
  CAST(json_extract(body,'$.proxy_port') AS INTEGER) AS "proxy_port",
  CAST(json_extract(body,'$.proxy_user') AS TEXT) AS "proxy_user",
  CAST(json_extract(body,'$.proxy_password') AS TEXT) AS "proxy_password",
  CAST(json_extract(body,'$.connect_timeout') AS INTEGER) AS "connect_timeout",
  CAST(json_extract(body,'$.idle_timeout') AS INTEGER) AS "idle_timeout",
  CAST(json_extract(body,'$.total_timeout') AS INTEGER) AS "total_timeout",
  CAST(json_extract(body,'$.allow_private_addresses') AS INTEGER) AS "allow_private_addresses"
FROM entry JOIN blob USING(hash) WHERE class='update' AND to_rev IS NULL;
CREATE VIEW v_mta_sts_setup AS SELECT name AS object,
  CAST(json_extract(body,'$.lookup_error') AS TEXT) AS "lookup_error"
FROM entry JOIN blob USING(hash) WHERE class='mta_sts_setup' AND to_rev IS NULL;
