/* ssl.c - see ssl.h. */
#include "store/ssl.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STRING 4096

/* Words of older releases of OpenSSL which select nothing any more and still stand in many a cipher
 * string. */
static const char *const historical[] = {
    "SSLv2",   "EXPORT", "EXPORT40",  "EXPORT56", "EXP",    "LOW",    "DES",  "RC2",
    "RC4",     "MD5",    "IDEA",      "SEED",     "GOST94", "KRB5",   "FZA",  "kFZA",
    "aFZA",    "eFZA",   "kKRB5",     "aKRB5",    "aDH",    "kDHr",   "kDHd", "kDH",
    "aECDH",   "kECDHr", "kECDHe",    "kECDH",    "ECDH",   "DSS",    "aDSS", "aGOST",
    "aGOST01", "kGOST",  "GOST89MAC", "CAMELLIA", "3DES",   "MEDIUM",
};

int ssl_version(int choice)
{
    return TLS1_VERSION + choice;
}

/* "RC4", "kRSA+RC4", "RC4-SHA": one such word in a combination makes it select nothing. */
static bool is_historical(const char *word)
{
    while (*word) {
        size_t n = strcspn(word, "+-");

        for (size_t i = 0; i < countof(historical); i++)
            if (slice_eq((struct slice){word, n}, historical[i]))
                return true;
        word += n + (word[n] != '\0');
    }
    return false;
}

static void split(const char *ciphers, struct strlist *out)
{
    while (*ciphers) {
        size_t n = strcspn(ciphers, ": ,;\t");

        if (n)
            strlist_addn(out, ciphers, n);
        ciphers += n + (ciphers[n] != '\0');
    }
}

static bool is_suite(const char *element)
{
    return str_starts(element, "TLS_");
}

/* "@STRENGTH", "@SECLEVEL=2": how to sort, and what to demand of keys. Level 0 would demand
 * nothing. */
static bool is_command(const char *element, struct err *err)
{
    if (str_eq(element, "@STRENGTH") || (str_starts(element, "@SECLEVEL=") && element[10] >= '1' &&
                                         element[10] <= '5' && !element[11]))
        return true;
    return err_set(err, E_INVALID,
                   "\"%s\" cannot be used here; the commands are @STRENGTH and @SECLEVEL=1 to 5.",
                   str_printable(element));
}

static bool is_known(const char *element, struct err *err)
{
    const char *word = element + strspn(element, "!-+");
    SSL_CTX *ctx;
    bool ok;

    if (*word == '@')
        return is_command(word, err);
    ctx = SSL_CTX_new(TLS_method());
    ok = ctx && *word;
    if (ok) {
        SSL_CTX_set_security_level(ctx, 0);
        ok = (is_suite(word) ? SSL_CTX_set_ciphersuites(ctx, word)
                             : SSL_CTX_set_cipher_list(ctx, word)) == 1 ||
             is_historical(word);
    }
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return ok || err_set(err, E_INVALID,
                         "OpenSSL knows no cipher and no group of ciphers \"%s\"; see VERIFY for "
                         "what a cipher string selects.",
                         str_printable(word));
}

/* The string in its two halves, which OpenSSL takes by two calls. */
static bool halves(const char *ciphers, struct buf *old, struct buf *new, bool check,
                   struct err *err)
{
    AUTO(strlist) struct strlist list = {0};

    if (strlen(ciphers) > MAX_STRING)
        return err_set(err, E_INVALID, "The cipher string is too long.");
    split(ciphers, &list);
    for (size_t i = 0; i < list.n; i++) {
        const char *e = list.items[i];
        struct buf *half = is_suite(e) ? new : old;

        if (check && !is_known(e, err))
            return false;
        buf_printf(half, "%s%s", half->n ? ":" : "", e);
    }
    return true;
}

bool ssl_set_ciphers(SSL_CTX *ctx, const char *ciphers, struct err *err)
{
    AUTO(buf) struct buf old = BUF_INIT(2 * MAX_STRING);
    AUTO(buf) struct buf new = BUF_INIT(2 * MAX_STRING);
    bool ok;

    if (!halves(ciphers, &old, &new, !str_eq(ciphers, SSL_DEFAULT_CIPHERS), err))
        return false;
    if (!old.n && !new.n)
        return err_set(err, E_INVALID, "The cipher string is empty.");
    if (old.n)
        buf_str_add(&old,
                    ":!aNULL:!eNULL"); /* nobody proves anything with these, nobody encrypts */
    ok = (!old.n || SSL_CTX_set_cipher_list(ctx, buf_str(&old)) == 1) &&
         (!new.n || SSL_CTX_set_ciphersuites(ctx, buf_str(&new)) == 1);
    ERR_clear_error();
    return ok || err_set(err, E_INVALID, "The string \"%s\" selects no cipher that may be used.",
                         str_printable(ciphers));
}

void ssl_ciphers_for(const char *ciphers, bool *old, bool *new)
{
    AUTO(strlist) struct strlist list = {0};

    *old = *new = false;
    split(ciphers, &list);
    for (size_t i = 0; i < list.n; i++)
        if (!strchr("!-@", *list.items[i]))
            *(is_suite(list.items[i]) ? new : old) = true;
    if (*old)
        *new = true; /* no suite named: all of them */
}

static bool group_is_known(const char *name)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    bool ok = ctx && SSL_CTX_set1_groups_list(ctx, name) == 1;

    SSL_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

bool ssl_set_groups(SSL_CTX *ctx, const char *groups, struct err *err)
{
    AUTO(buf) struct buf list = BUF_INIT(2 * MAX_STRING);
    AUTO(strlist) struct strlist names = {0};

    if (strlen(groups) > MAX_STRING)
        return err_set(err, E_INVALID, "The list of groups is too long.");
    split(groups, &names);
    for (size_t i = 0; i < names.n; i++) {
        const char *name = names.items[i] + (*names.items[i] == '?');

        if (name == names.items[i] || group_is_known(name))
            buf_printf(&list, "%s%s", list.n ? ":" : "", name);
    }
    if (!list.n)
        return err_set(err, E_INVALID, "The list names no group that this OpenSSL knows.");
    if (SSL_CTX_set1_groups_list(ctx, buf_str(&list)) == 1)
        return true;
    ERR_clear_error();
    for (size_t i = 0; i < names.n; i++)
        if (*names.items[i] != '?' && !group_is_known(names.items[i]))
            return err_set(
                err, E_INVALID,
                "OpenSSL knows no group \"%s\"; common ones are X25519, P-256, P-384 and "
                "P-521.",
                str_printable(names.items[i]));
    return err_set(err, E_INVALID, "OpenSSL refuses this list of groups; name each one once.");
}

/* What level 1 demands but for the age of versions and signatures. Bits: of the algorithm in
 * question. */
static int on_security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                       void *arg)
{
    (void)ssl;
    (void)ctx;
    (void)nid;
    (void)other;
    (void)arg;
    switch (op) {
    case SSL_SECOP_VERSION:
    case SSL_SECOP_SIGALG_SUPPORTED:
    case SSL_SECOP_SIGALG_SHARED:
    case SSL_SECOP_SIGALG_CHECK:
    case SSL_SECOP_SIGALG_MASK:
    case SSL_SECOP_TICKET:
    case SSL_SECOP_COMPRESSION:
        return 1;
    default:
        return bits >= 80;
    }
}

void ssl_allow_old_versions(SSL_CTX *ctx)
{
    SSL_CTX_set_security_callback(ctx, on_security);
}

bool ssl_describe(const char *ciphers, int min, int max, struct strlist *lines, struct err *err)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    SSL *ssl;
    STACK_OF(SSL_CIPHER) * stack;
    bool ok;

    if (!ctx)
        return err_set(err, E_TLS, "OpenSSL gives no context.");
    SSL_CTX_set_security_level(ctx, 1);
    if (min < TLS1_2_VERSION)
        ssl_allow_old_versions(ctx);
    SSL_CTX_set_min_proto_version(ctx, min);
    SSL_CTX_set_max_proto_version(ctx, max);
    ok = ssl_set_ciphers(ctx, ciphers, err);
    ssl = ok ? SSL_new(ctx) : NULL;
    stack = ssl ? SSL_get1_supported_ciphers(ssl) : NULL;
    for (int i = 0; stack && i < sk_SSL_CIPHER_num(stack); i++) {
        char line[256];
        size_t n;

        SSL_CIPHER_description(sk_SSL_CIPHER_value(stack, i), line, sizeof(line));
        for (n = strlen(line); n && strchr(" \n", line[n - 1]); n--)
            ;
        strlist_addn(lines, line, n);
    }
    sk_SSL_CIPHER_free(stack);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    if (ok && !lines->n)
        return err_set(err, E_INVALID, "The string selects no cipher of these TLS versions.");
    return ok;
}
