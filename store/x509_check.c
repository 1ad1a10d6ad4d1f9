/* x509_check.c - what is wrong with a certificate; see x509.h. The words of the findings are an
 * interface:
 *
 *   unreadable demo key-mismatch expired not-yet-valid expires-soon weak-key weak-digest version
 * extensions no-san not-fqdn name-mismatch authority key-usage no-server-auth no-client-auth
 * lifetime chain-unreadable chain-order chain-stranger chain-expired chain-incomplete chain-weak
 *
 * Whether an issuer is a public authority is judged by the bundle of the system (SSL_CERT_FILE
 * names another one), which is read when it is first needed and kept until x509_forget_public. */
#include "store/x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/x509_lib.h"

#define SYSTEM_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define SOON 30

/* --- public authorities --- */

static STACK_OF(X509) * roots;
static pthread_mutex_t roots_lock = PTHREAD_MUTEX_INITIALIZER; /* of roots */

static void read_roots(void)
{
    const char *path = secure_getenv("SSL_CERT_FILE");
    AUTO_BIO b = BIO_new_file(path ? path : SYSTEM_BUNDLE, "r");
    X509 *x;

    roots = sk_X509_new_null();
    while (b && sk_X509_num(roots) < 2000 &&
           (x = PEM_read_bio_X509(b, NULL, no_pass_phrase, NULL)) != NULL)
        sk_X509_push(roots, x);
    ERR_clear_error();
}

/* Is the certificate one of them, or signed by one? */
static bool is_public(X509 *x)
{
    bool found = false;

    pthread_mutex_lock(&roots_lock);
    if (!roots)
        read_roots();
    for (int i = 0; !found && i < sk_X509_num(roots); i++) {
        X509 *root = sk_X509_value(roots, i);

        found = X509_NAME_cmp(X509_get_issuer_name(x), X509_get_subject_name(root)) == 0 &&
                (X509_cmp(x, root) == 0 || is_signed_by(x, root));
    }
    pthread_mutex_unlock(&roots_lock);
    return found;
}

void x509_forget_public(void)
{
    pthread_mutex_lock(&roots_lock);
    sk_X509_pop_free(roots, X509_free);
    roots = NULL;
    pthread_mutex_unlock(&roots_lock);
}

/* --- findings --- */

static void __attribute__((format(printf, 4, 5)))
add(struct x509_findings *out, enum x509_severity severity, const char *word, const char *fmt, ...)
{
    AUTO(buf) struct buf b = BUF_INIT(2000);
    va_list ap;

    if (out->n == out->cap) {
        out->cap = out->cap ? out->cap * 2 : 8;
        out->items = xrealloc(out->items, out->cap * sizeof(*out->items));
    }
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    out->items[out->n++] = (struct x509_finding){severity, word, buf_take(&b)};
}

void x509_findings_free(struct x509_findings *f)
{
    for (size_t i = 0; i < f->n; i++)
        free(f->items[i].text);
    free(f->items);
    *f = (struct x509_findings){0};
}

const char *x509_severity_word(enum x509_severity s)
{
    return s == X509_ERROR ? "error" : s == X509_WARNING ? "warning" : "note";
}

static void check_time(const struct x509_facts *f, usec_t now, struct x509_findings *out)
{
    int64_t days = x509_days_left(f, now);
    char date[40];

    if (f->not_after < f->not_before)
        add(out, X509_ERROR, "expired", "The certificate ends before it begins to be valid.");
    else if (now > f->not_after)
        add(out, X509_ERROR, "expired",
            "The certificate has expired; peers that verify it will refuse it.");
    else if (now < f->not_before)
        add(out, X509_ERROR, "not-yet-valid", "The certificate is not valid yet: it begins at %s.",
            clock_rfc3339(f->not_before, date));
    else if (days < SOON)
        add(out, X509_WARNING, "expires-soon", "The certificate expires in %lld day%s.",
            (long long)days, days == 1 ? "" : "s");
}

/* CA/Browser Forum, ballots SC-031 and SC-081: the longest life of what a public authority issues.
 */
static unsigned public_limit(usec_t issued)
{
    static const struct {
        int64_t from; /* seconds since 1970 */
        unsigned days;
    } limits[] = {
        {1868054400, 47 }, /* 2029-03-15 */
        {1804982400, 100}, /* 2027-03-15 */
        {1773532800, 200}, /* 2026-03-15 */
        {1598918400, 398}, /* 2020-09-01 */
    };

    for (size_t i = 0; i < countof(limits); i++)
        if (issued / 1000000 >= limits[i].from)
            return limits[i].days;
    return 0;
}

static void check_lifetime(X509 *top, const struct x509_facts *f, struct x509_findings *out)
{
    unsigned limit = public_limit(f->not_before);
    int64_t seconds = (f->not_after - f->not_before) / 1000000;

    if (limit && seconds > (int64_t)limit * DAY && !f->is_ca && is_public(top))
        add(out, X509_WARNING, "lifetime",
            "The certificate is valid for %lld days; one of a public authority issued on that day "
            "may be valid for %u, and peers may refuse it.",
            (long long)(seconds / DAY), limit);
}

static void check_strength(const struct x509_facts *f, struct x509_findings *out)
{
    if (f->weak_key)
        add(out, X509_WARNING, "weak-key",
            "The key has only %u bits and can be broken; peers may refuse it. Use RSA with 2048 "
            "bits or more, or ECDSA.",
            f->key_bits);
    if (f->weak_digest)
        add(out, X509_WARNING, "weak-digest",
            "The certificate is signed with %s, which peers refuse today.", f->signature);
    if (f->version != 3)
        add(out, X509_WARNING, "version",
            "The certificate is of X.509 version %d; peers may refuse everything but version 3.",
            f->version);
    if (f->damaged_extensions)
        add(out, X509_WARNING, "extensions",
            "The certificate has extensions that cannot be read; peers may refuse it.");
}

static bool is_host_name(const char *name)
{
    struct addr a;

    return host_is_fqdn(str_starts(name, "*.") ? name + 2 : name) || addr_parse(name, &a);
}

static const char *first_unqualified(const struct x509_facts *f)
{
    for (size_t i = 0; i < f->names.n; i++)
        if (!is_host_name(f->names.items[i]))
            return f->names.items[i];
    return f->names.n || is_host_name(f->common_name) ? NULL : f->common_name;
}

bool x509_check_fqdn(const struct x509_facts *f, struct err *err)
{
    const char *bad = is_host_name(f->common_name) || (!*f->common_name && f->names.n)
                          ? first_unqualified(f)
                          : f->common_name;

    return !bad || err_set(err, E_INVALID,
                           "\"%.200s\" is not a fully qualified domain name. Ex: "
                           "\"mail3.example.com\".",
                           bad);
}

static void check_names(X509 *x, const struct x509_facts *f, const struct strlist *hosts,
                        struct x509_findings *out)
{
    const char *bad = first_unqualified(f);

    if (!f->names.n)
        add(out, X509_WARNING, "no-san",
            "The certificate has no subject alternative name; peers that verify names will refuse "
            "it.");
    if (bad)
        add(out, X509_WARNING, "not-fqdn", "\"%s\" is not a fully qualified domain name.", bad);
    for (size_t i = 0; hosts && i < hosts->n; i++)
        if (X509_check_host(x, hosts->items[i], 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) != 1)
            add(out, X509_WARNING, "name-mismatch",
                "The certificate does not cover the name %s, by which peers know this gateway.",
                str_printable(hosts->items[i]));
    ERR_clear_error();
}

static void check_usage(const struct x509_facts *f, const struct x509_subject *s,
                        struct x509_findings *out)
{
    bool server = s->server || !s->client;

    if (f->is_ca && !f->self_signed)
        add(out, X509_WARNING, "authority",
            "This is the certificate of an authority, not of a mail server; peers may refuse it.");
    if (!f->for_signing)
        add(out, X509_WARNING, "key-usage",
            "The key usage does not allow digital signatures, which TLS needs.");
    if (server && !f->for_servers)
        add(out, X509_WARNING, "no-server-auth",
            "The extended key usage does not allow TLS servers; peers that verify the certificate "
            "of a listener will refuse it.");
    if (s->client && !f->for_clients)
        add(out, X509_NOTE, "no-client-auth",
            "The extended key usage does not allow TLS clients; next hops that ask for a client "
            "certificate may refuse it in deliveries.");
}

/* --- the chain --- */

static void check_order(X509 **chain, int n, int placed, X509 **sorted, struct x509_findings *out)
{
    bool moved = false;

    for (int i = 0; i < placed; i++)
        moved |= chain[i] != sorted[i];
    if (placed < n) {
        char *name = name_line(X509_get_subject_name(sorted[placed]));

        add(out, X509_WARNING, "chain-stranger",
            "The intermediate certificate \"%s\" is not part of the chain. Remove it.", name);
        free(name);
    } else if (moved) {
        add(out, X509_WARNING, "chain-order",
            "The intermediate certificates are not in the order of signing; peers may refuse the "
            "chain. Add them again with certconfig, which sorts them.");
    }
}

static void check_links(X509 **chain, int n, usec_t now, struct x509_findings *out)
{
    for (int i = 0; i < n; i++) {
        struct x509_facts f;

        facts_of(chain[i], &f);
        if (now > f.not_after || now < f.not_before)
            add(out, X509_ERROR, "chain-expired",
                "The intermediate certificate \"%s\" %s; peers that verify the chain will refuse "
                "it.",
                f.subject, now > f.not_after ? "has expired" : "is not valid yet");
        if (f.weak_key || (f.weak_digest && !f.self_signed))
            add(out, X509_WARNING, "chain-weak",
                "The intermediate certificate \"%s\" has a weak key or signature (%s, %s).",
                f.subject, f.key, f.signature);
        x509_facts_free(&f);
    }
}

/* *top: the last certificate of the chain as far as it goes. */
static void check_end(X509 *leaf, X509 *top, const struct x509_facts *f, struct x509_findings *out)
{
    char *missing = name_line(X509_get_issuer_name(top)),
         *end = name_line(X509_get_subject_name(top));

    if (f->self_signed || is_signed_by(top, top) || is_public(top))
        ;
    else if (top == leaf)
        add(out, X509_WARNING, "chain-incomplete",
            "No intermediate certificate is stored; peers that do not know the issuer \"%s\" "
            "cannot verify this certificate.",
            missing);
    else
        add(out, X509_NOTE, "chain-incomplete",
            "The chain ends at \"%s\"; peers must know \"%s\", which is not a public authority.",
            end, missing);
    free(missing);
    free(end);
}

static void check_chain(X509 *leaf, const struct x509_facts *f, const struct x509_subject *s,
                        struct x509_findings *out)
{
    const char *pem = s->intermediates ? s->intermediates : "";
    X509 *chain[X509_MAX_CHAIN], *sorted[X509_MAX_CHAIN];
    struct err err = {0};
    int n = pem_all(pem, chain, X509_MAX_CHAIN, &err), placed;
    X509 *top;

    if (n < 0 || (!n && strstr(pem, "-----BEGIN"))) {
        add(out, X509_ERROR, "chain-unreadable",
            "The intermediate certificates cannot be read; import them again.");
        return;
    }
    memcpy(sorted, chain, sizeof(chain[0]) * (size_t)n);
    placed = sort_chain(leaf, sorted, n);
    top = placed ? sorted[placed - 1] : leaf;
    check_order(chain, n, placed, sorted, out);
    check_links(sorted, placed, s->now, out);
    check_end(leaf, top, f, out);
    check_lifetime(top, f, out);
    for (int i = 0; i < n; i++)
        X509_free(chain[i]);
}

static int by_severity(const void *a, const void *b)
{
    const struct x509_finding *x = a, *y = b;
    int order = (int)y->severity - (int)x->severity;

    return order ? order : strcmp(x->word, y->word);
}

void x509_check(const struct x509_subject *s, struct x509_findings *out)
{
    struct err err = {0};
    AUTO_X509 x = pem_first(s->certificate, &err);
    struct x509_facts f;

    if (!x) {
        add(out, X509_ERROR, "unreadable", "%s", err.text);
        return;
    }
    facts_of(x, &f);
    if (s->demo)
        add(out, X509_WARNING, "demo",
            "This is the demonstration certificate, which proves nothing to peers. Use it for "
            "tests "
            "only.");
    if (s->private_key && *s->private_key &&
        !x509_key_matches(s->certificate, s->private_key, &err))
        add(out, X509_ERROR, "key-mismatch", "%s", err.text);
    check_time(&f, s->now, out);
    check_strength(&f, out);
    check_names(x, &f, s->demo ? NULL : s->hosts, out);
    check_usage(&f, s, out);
    check_chain(x, &f, s, out);
    x509_facts_free(&f);
    if (out->n)
        qsort(out->items, out->n, sizeof(*out->items), by_severity);
}

bool x509_covers(const char *pem, const char *host)
{
    AUTO_X509 x = pem_first(pem, NULL);
    bool ok = x && X509_check_host(x, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;

    ERR_clear_error();
    return ok;
}
