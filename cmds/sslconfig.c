/* sslconfig.c - TLS versions, ciphers and groups by service, and what is looked at in peers'
 * certificates. */
#include "cmds/common.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/ssl.h"

struct service {
    const char *name; /* beginning of its fields: "inbound" */
    const char *title; /* in the summary */
    const char *question; /* in the questions */
};
static const struct service gui = {"gui", "GUI HTTPS", "GUI HTTPS"};
static const struct service inbound = {"inbound", "Inbound SMTP", "inbound SMTP"};
static const struct service outbound = {"outbound", "Outbound SMTP", "outbound SMTP"};

static const char *field_of(const struct service *v, const char *what, char out[32])
{
    snprintf(out, 32, "%s_%s", v->name, what);
    return out;
}

static int version_of(const struct row *r, const struct service *v, const char *which)
{
    char name[32];

    return *(const int *)row_slot(r, field_find(r->section, field_of(v, which, name)));
}

/* --- what there is */

/* Elements one a line, as people compare them. */
static void say_elements(struct ui *ui, const struct row *r, const struct service *v,
                         const char *what)
{
    AUTO(strlist) struct strlist list = {0};
    char name[32];

    ui_say(ui, "  %s %s:", v->title, what);
    strlist_split(&list, row_text(r, field_of(v, what, name)), ':');
    for (size_t i = 0; i < list.n; i++)
        ui_say(ui, "        %s", list.items[i]);
}

/* "tlsv1_2tlsv1_3" */
static void method_text(int min, int max, struct buf *out)
{
    for (int i = min; i <= max; i++)
        buf_printf(out, "tlsv1_%d", i);
}

static void say_service(struct ui *ui, const struct row *r, const struct service *v)
{
    AUTO(buf) struct buf method = BUF_INIT(100);

    method_text(version_of(r, v, "min"), version_of(r, v, "max"), &method);
    ui_say(ui, "  %s method:  %s", v->title, buf_str(&method));
    say_elements(ui, r, v, "ciphers");
    say_elements(ui, r, v, "groups");
}

static void say_settings(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *r = session_get(s, &section_ssl_settings, "-");
    const struct ssl_settings *now = r ? r->data : NULL;
    AUTO(buf) struct buf other = BUF_INIT(100);

    (void)unused;
    if (!r)
        return;
    ui_say(ui, "sslconfig settings:");
    say_service(ui, r, &gui);
    say_service(ui, r, &inbound);
    say_service(ui, r, &outbound);
    method_text(now->other_min, TLSV1_3, &other);
    ui_say(ui, "  Other client services method:  %s", buf_str(&other));
    ui_say(ui, "  Peer certificate FQDN validation:  %s",
           now->peer_cert_fqdn ? "Enabled" : "Disabled");
    ui_say(ui, "  Peer certificate X509 validation:  %s",
           now->peer_cert_x509 ? "Enabled" : "Disabled");
    row_free(&r);
}

/* --- versions: several at once, without a gap */

static bool one_version(const char *text, int *out)
{
    const struct choice *c = choices_tls_versions;

    for (int i = 0; c[i].word; i++) {
        if (str_ieq(text, c[i].word) || str_ieq(text, c[i].text) ||
            (text[0] == '1' + i && !text[1])) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* "3", "2-3", "2,3", "tlsv1.2, tlsv1.3" */
static bool parse_versions(const char *text, int *min, int *max, struct err *err)
{
    AUTO(strlist) struct strlist list = {0};
    bool chosen[4] = {false};

    strlist_split(&list, text, ',');
    for (size_t i = 0; i < list.n; i++) {
        char *dash = strchr(list.items[i], '-');
        int from, to;

        if (dash)
            *dash++ = '\0';
        if (!one_version(str_trim(list.items[i]), &from) ||
            !one_version(dash ? str_trim(dash) : list.items[i], &to) || from > to)
            return err_set(err, E_INVALID,
                           "Enter the numbers of the versions, such as 3-4 or 3,4.");
        for (int k = from; k <= to; k++)
            chosen[k] = true;
    }
    for (*min = 0; *min < 3 && !chosen[*min]; ++*min)
        ;
    for (*max = 3; *max > 0 && !chosen[*max]; --*max)
        ;
    if (!chosen[*min])
        return err_set(err, E_INVALID, "Choose at least one version.");
    for (int k = *min; k < *max; k++)
        if (!chosen[k])
            return err_set(err, E_INVALID,
                           "%s lies between two chosen versions and cannot be left out.",
                           choices_tls_versions[k].text);
    return true;
}

static bool accept_versions(void *arg, const char *answer, struct err *err)
{
    int min, max;

    (void)arg;
    return parse_versions(answer, &min, &max, err);
}

static void ask_versions(struct ui *ui, struct row *r, const struct service *v)
{
    AUTO(buf) struct buf text = BUF_INIT(400);
    int min = version_of(r, v, "min"), max = version_of(r, v, "max");
    char deflt[8], name[32];
    struct ui_question q = {
        .key = "versions",
        .deflt = deflt,
        .help = "Several versions are separated by commas, or FIRST-LAST. TLS v1.0 and v1.1 are "
                "obsolete (RFC 8996).",
        .accept = accept_versions};

    snprintf(deflt, sizeof(deflt), min == max ? "%d" : "%d-%d", (min & 3) + 1, (max & 3) + 1);
    buf_printf(&text, "Enter the %s ssl method you want to use.", v->question);
    for (int i = 0; choices_tls_versions[i].word; i++)
        buf_printf(&text, "\n%d. %s", i + 1, choices_tls_versions[i].text);
    q.text = buf_str(&text);
    if (!parse_versions(ui_ask(ui, &q), &min, &max, NULL) || ui_failed(ui))
        return;
    row_set(r, field_of(v, "min", name), choices_tls_versions[min].word, NULL);
    row_set(r, field_of(v, "max", name), choices_tls_versions[max].word, NULL);
    if (min < TLSV1_2)
        ui_say(ui, "Warning: TLS v1.0 and v1.1 are obsolete and can be attacked (RFC 8996). Allow "
                   "them only for peers that know nothing newer.");
}

/* --- operations */

struct elements {
    struct row *row;
    const char *field;
};

static bool accept_elements(void *arg, const char *answer, struct err *err)
{
    const struct elements *e = arg;
    struct row *trial = row_copy(e->row);
    bool ok = row_set(trial, e->field, answer, err);

    row_free(&trial);
    return ok;
}

/* Elements are shown one a line and typed joined. */
static void ask_elements(struct ui *ui, struct row *r, const struct service *v, const char *what)
{
    char name[32];
    struct elements e = {r, field_of(v, what, name)};
    const struct field *f = field_find(r->section, name);
    AUTO(str) char *now = xstrdup(row_text(r, name));
    struct ui_question q = {.text = f->prompt,
                            .key = what,
                            .deflt = now,
                            .help = f->help,
                            .accept = accept_elements,
                            .arg = &e};
    const char *answer = ui_ask(ui, &q);
    struct err err = {0};

    if (!ui_failed(ui) && !row_set(r, name, answer, &err))
        ui_error(ui, &err);
}

static void edit_service(struct ui *ui, struct session *s, const struct service *v)
{
    struct row *r = session_edit(s, &section_ssl_settings, "-");

    if (!r)
        return;
    ask_versions(ui, r, v);
    ask_elements(ui, r, v, "ciphers");
    ask_elements(ui, r, v, "groups");
}

static void edit_gui(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    edit_service(ui, s, &gui);
}

static void edit_inbound(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    edit_service(ui, s, &inbound);
}

static void edit_outbound(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    edit_service(ui, s, &outbound);
}

static void edit_other(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    ask_field(ui, s, session_edit(s, &section_ssl_settings, "-"), "other_min");
}

static bool accept_ciphers(void *arg, const char *answer, struct err *err)
{
    AUTO(strlist) struct strlist lines = {0};

    (void)arg;
    return ssl_describe(answer, TLS1_VERSION, TLS1_3_VERSION, &lines, err);
}

static void verify(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_get(s, &section_ssl_settings, "-");
    AUTO(str) char *now = xstrdup(r ? row_text(r, "inbound_ciphers") : SSL_DEFAULT_CIPHERS);
    const struct ui_question q = {.text = "Enter the ssl cipher you want to verify.",
                                  .key = "ciphers",
                                  .deflt = now,
                                  .help = SSL_CIPHERS_HELP,
                                  .accept = accept_ciphers};
    AUTO(strlist) struct strlist lines = {0};
    AUTO(str) char *answer = xstrdup(ui_ask(ui, &q));
    json_t *list = json_array(), *data = json_object();
    struct err err = {0};

    (void)unused;
    row_free(&r);
    if (!ui_failed(ui) && ui_end_of_words(ui) &&
        !ssl_describe(answer, TLS1_VERSION, TLS1_3_VERSION, &lines, &err))
        ui_error(ui, &err);
    for (size_t i = 0; i < lines.n; i++) {
        out_line(ui, "%s", lines.items[i]);
        json_array_append_new(list, json_string(lines.items[i]));
    }
    json_put(data, "ciphers", list);
    out_data(ui, data);
}

/* "... is currently disabled. Do you want to enable it? [N]" */
static void flip(struct ui *ui, struct session *s, const char *field, const char *what)
{
    struct row *r = session_edit(s, &section_ssl_settings, "-");
    bool now = r && row_is(r, field, "yes");
    AUTO(str)
    char *question = xasprintf("%s validation is currently %s. Do you want to %s it?", what,
                               now ? "enabled" : "disabled", now ? "disable" : "enable");

    if (r && ask_yes(ui, field, question, false))
        row_set(r, field, now ? "no" : "yes", NULL);
}

static void flip_fqdn(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    flip(ui, s, "peer_cert_fqdn", "FQDN");
}

static void flip_x509(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    flip(ui, s, "peer_cert_x509", "X509");
}

/* clang-format off */
static const struct menu_op main_ops[] = {
    {"GUI", "Edit GUI HTTPS ssl settings.", NULL, edit_gui, NULL},
    {"INBOUND", "Edit Inbound SMTP ssl settings.", NULL, edit_inbound, NULL},
    {"OUTBOUND", "Edit Outbound SMTP ssl settings.", NULL, edit_outbound, NULL},
    {"VERIFY", "Verify and show ssl cipher list.", NULL, verify, NULL},
    {"OTHER_CLIENT", "Edit the oldest TLS version of other client services.", NULL, edit_other, NULL},
    {"PEER_CERT_FQDN", "Validate peer certificate FQDN compliance for Outbound SMTP.", NULL, flip_fqdn, NULL},
    {"PEER_CERT_X509", "Validate peer certificate X509 compliance for Outbound SMTP.", NULL, flip_x509, NULL},
};
/* clang-format on */
static const struct menu main_menu = {say_settings, main_ops, countof(main_ops),
                                      &section_ssl_settings};

const struct command cmd_sslconfig = {
    .name = "sslconfig",
    .help = "Configure TLS versions, ciphers and key exchange groups",
    .detail =
        "A commit counts from the next connection on; sessions that are open stay as they are. "
        "Peer certificates are looked at where a destination's TLS setting verifies them and "
        "where an MTA-STS policy is enforced; DANE has rules of its own.",
    .usage = "sslconfig inbound|outbound|gui [versions=FIRST-LAST] [ciphers=LIST] [groups=LIST]\n"
             "sslconfig verify LIST",
    .roles = ROLE_OPERATOR,
    .commits = true,
    .section = &section_ssl_settings,
    .menu = &main_menu,
};
