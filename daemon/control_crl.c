/* control_crl.c - crl.*: the sources of revocation lists and what became of them. */
#include "daemon/control.h"

#include <openssl/bn.h>

#include "daemon/control_config.h"
#include "daemon/crl_source.h"
#include "daemon/export_area.h"
#include "daemon/reload.h"
#include "store/authorities.h"
#include "store/base/log.h"
#include "store/base/str.h"

static void put_time(json_t *o, const char *key, usec_t t)
{
    char text[40];

    if (t)
        json_put_str(o, key, clock_rfc3339(t, text));
}

/* --- crl.list -------------------------------------------------------------------------------- */

static void put_list(json_t *o, const struct crl_list *l)
{
    AUTO(buf) struct buf number = BUF_INIT(100);

    crl_number_text(l, &number);
    json_put_str(o, "issuer", l->issuer_text);
    if (number.n)
        json_put_str(o, "number", buf_str(&number));
    json_put_int(o, "entries", (json_int_t)l->entries);
    json_put_int(o, "bytes", (json_int_t)l->bytes);
    json_put_int(o, "memory", (json_int_t)l->memory);
    put_time(o, "this_update", l->this_update);
    put_time(o, "next_update", l->next_update);
    put_time(o, "ends", crl_ends(l));
}

static void describe(const struct crl_info *i, void *arg)
{
    json_t *o = json_object();

    json_put_str(o, "name", i->name);
    json_put_str(o, "state", crl_state_word(i->state));
    if (i->list)
        put_list(o, i->list);
    put_time(o, "fetched", i->fetched);
    if (*i->fetched_from)
        json_put_str(o, "fetched_from", i->fetched_from);
    put_time(o, "next_fetch", i->next_fetch);
    if (*i->failure) {
        json_put_str(o, "failure", i->failure);
        put_time(o, "failed_at", i->failed_at);
    }
    json_array_append_new(arg, o);
}

static void put_settings(json_t *o, const struct row *r)
{
    static const char *const fields[] = {"format", "url", "url2", "schedule", "time"};

    json_put(o, "enabled", json_boolean(row_is(r, "enabled", "yes")));
    json_put(o, "auto_update", json_boolean(row_is(r, "auto_update", "yes")));
    for (size_t i = 0; i < countof(fields); i++)
        json_put_str(o, fields[i], row_text(r, fields[i]));
}

static bool crl_list(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    struct config *cfg = running_config();
    json_t *sources = json_array(), *o;
    size_t i;

    (void)c;
    (void)args;
    (void)err;
    crl_each(describe, sources);
    json_array_foreach(sources, i, o)
    {
        const struct row *r = config_row(cfg, &section_crl_source, json_str(o, "name", ""));

        if (r)
            put_settings(o, r);
    }
    json_put(data, "sources", sources);
    config_free(&cfg);
    return true;
}

/* --- crl.update ------------------------------------------------------------------------------ */

static void name_of(const struct crl_info *i, void *arg)
{
    if (i->state != CRL_DISABLED)
        strlist_add(arg, i->name);
}

struct now {
    const char *name;
    json_int_t entries;
    char ends[40];
};

static void look(const struct crl_info *i, void *arg)
{
    struct now *n = arg;

    if (!str_eq(i->name, n->name) || !i->list)
        return;
    n->entries = (json_int_t)i->list->entries;
    clock_rfc3339(crl_ends(i->list), n->ends);
}

/* YIELDS */
static bool update_one(struct control *c, const char *name, bool *ok)
{
    AUTO(buf) struct buf line = BUF_INIT(2000);
    struct now n = {.name = name};
    struct err err = {0};
    json_t *o = json_object();
    bool unchanged;

    *ok = crl_update(name, &unchanged, &err); /* YIELDS */
    if (*ok) {
        crl_each(look, &n);
        buf_printf(&line, "%s: %s, %lld entr%s, in date until %s", name,
                   unchanged ? "not changed" : "updated", (long long)n.entries,
                   n.entries == 1 ? "y" : "ies", n.ends);
    } else {
        buf_printf(&line, "%s: not updated: %s", name, err.text);
    }
    json_put_str(o, "event", "source");
    json_put_str(o, "line", buf_str(&line));
    json_put_str(o, "name", name);
    json_put(o, "ok", json_boolean(*ok));
    if (*ok)
        json_put(o, "changed", json_boolean(!unchanged));
    else
        json_put_str(o, "failure", err.text);
    return control_more(c, o); /* YIELDS */
}

static bool crl_update_op(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    const char *name = json_str(args, "name", NULL);
    AUTO(strlist) struct strlist names = {0};
    json_int_t updated = 0, failed = 0;
    bool ok, more = true;

    crl_each(name_of, &names);
    if (name && !strlist_has(&names, name))
        return err_set(err, E_NOT_FOUND,
                       "There is no CRL source \"%s\" that is enabled in the running "
                       "configuration; commit what you have changed first.",
                       str_printable(name));
    if (!name && !names.n)
        return err_set(err, E_NOT_FOUND,
                       "No CRL source is enabled in the running configuration; commit what you "
                       "have changed first.");
    for (size_t i = 0; more && i < names.n; i++) {
        if (name && !str_eq(names.items[i], name))
            continue;
        more = update_one(c, names.items[i], &ok); /* YIELDS */
        updated += ok;
        failed += !ok;
    }
    log_info("crl: %s had %s fetched: %lld updated, %lld failed", control_user(c),
             name ? str_printable(name) : "every list", (long long)updated, (long long)failed);
    control_audit(c, "crl.update", name ? name : "all", failed ? "failed" : "ok",
                  NULL); /* YIELDS */
    json_put_int(data, "updated", updated);
    json_put_int(data, "failed", failed);
    return true;
}

/* --- crl.check ------------------------------------------------------------------------------- */

#define MAX_CERTIFICATES 100u

struct checking {
    json_t *lists;
    bool revoked, good;
};

static void note_finding(const struct crl_finding *f, void *arg)
{
    struct checking *k = arg;
    json_t *o = json_object();

    json_put_str(o, "source", f->source);
    json_put_str(o, "state", crl_state_word(f->state));
    json_put(o, "listed", json_boolean(f->listed));
    if (f->listed) {
        put_time(o, "revoked", f->entry.revoked);
        json_put_str(o, "reason", crl_reason_text(f->entry.reason));
    } else {
        json_put(o, "covered", json_boolean(f->covers));
    }
    if (f->state != CRL_MISSING) {
        k->revoked |= f->listed;
        k->good |= f->covers && f->state == CRL_CURRENT;
    }
    json_array_append_new(k->lists, o);
}

static json_t *check_one(X509 *x)
{
    AUTO(str)
    char *subject = authority_dn(X509_get_subject_name(x)),
         *issuer = authority_dn(X509_get_issuer_name(x));
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *serial = bn ? BN_bn2hex(bn) : NULL;
    struct checking k = {.lists = json_array()};
    json_t *o = json_object();

    crl_findings(x, note_finding, &k);
    json_put_str(o, "subject", subject);
    json_put_str(o, "issuer", issuer);
    json_put_str(o, "serial", serial ? serial : "");
    json_put_str(o, "result", k.revoked ? "revoked" : k.good ? "good" : "unknown");
    json_put(o, "lists", k.lists);
    OPENSSL_free(serial);
    BN_free(bn);
    return o;
}

/* The certificates of a profile, of a file of the export area, or of the text that came along. */
static bool texts_of(struct control *c, const json_t *args, struct buf *text, struct err *err)
{
    const char *name = json_str(args, "name", ""), *given = json_str(args, "certificate", NULL);
    const struct certificate *p;
    struct config *view = NULL;

    if (given) {
        buf_str_add(text, given);
        return !text->full || err_set(err, E_LIMIT, "The text is too long.");
    }
    if (!control_view(c, args, "revision", "candidate", &view, err)) /* YIELDS */
        return false;
    p = CONFIG_GET(view, certificate, name);
    if (p)
        buf_printf(text, "%s\n%s", p->certificate, p->intermediates);
    config_free(&view);
    return p || control_read_file(c, name, text, err); /* YIELDS */
}

static bool crl_check_op(struct control *c, const json_t *args, json_t *data, struct err *err)
{
    AUTO(buf) struct buf text = BUF_INIT(1u << 20);
    json_t *out = json_array();
    struct authorities list = {0};
    bool ok = texts_of(c, args, &text, err) && /* YIELDS */
              authorities_read(buf_str(&text), text.n, MAX_CERTIFICATES, true, &list, err);

    for (size_t i = 0; ok && i < list.n; i++)
        json_array_append_new(out, check_one(list.items[i]));
    json_put(data, "certificates", out);
    authorities_free(&list);
    return ok;
}

const struct control_op control_crl_ops[] = {
    {"crl.list",   ROLE_READONLY, crl_list     },
    {"crl.update", ROLE_OPERATOR, crl_update_op},
    {"crl.check",  ROLE_READONLY, crl_check_op },
    {NULL,         0,             NULL         },
};
