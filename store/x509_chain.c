/* x509_chain.c - the certificates between a leaf and its root; see x509.h. */
#include "store/x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "store/x509_lib.h"

bool is_signed_by(X509 *child, X509 *issuer)
{
    bool ok = X509_check_issued(issuer, child) == X509_V_OK && X509_get0_pubkey(issuer) &&
              X509_verify(child, X509_get0_pubkey(issuer)) == 1;

    ERR_clear_error();
    return ok;
}

bool pem_add(struct buf *out, X509 *x)
{
    AUTO_BIO b = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    if (!PEM_write_bio_X509(b, x))
        return false;
    n = BIO_get_mem_data(b, &p);
    buf_add(out, p, (size_t)n);
    return !out->full;
}

bool x509_first(const char *pem, struct buf *out, struct err *err)
{
    AUTO_X509 x = pem_first(pem, err);

    return x && (pem_add(out, x) || err_set(err, E_LIMIT, "The certificate is too long."));
}

/* Sorts chain[] behind leaf; the count of those that found their place is returned, the rest
 * follows them. */
int sort_chain(X509 *leaf, X509 **chain, int n)
{
    X509 *at = leaf;
    int placed = 0;

    while (placed < n) {
        int i = placed;

        while (i < n && !is_signed_by(at, chain[i]))
            i++;
        if (i == n)
            break;
        at = chain[i];
        chain[i] = chain[placed];
        chain[placed++] = at;
        if (is_signed_by(at, at)) /* a root: nothing stands above it */
            break;
    }
    return placed;
}

/* Reads pem without copies of the leaf and without repetitions; -1: err says what is wrong. */
static int read_chain(X509 *leaf, const char *pem, X509 **out, int max, struct err *err)
{
    X509 **all = xcalloc((size_t)max, sizeof(*all));
    int count = pem_all(pem, all, max, err), n = count < 0 ? -1 : 0;

    for (int i = 0; i < count; i++) {
        bool again = X509_cmp(all[i], leaf) == 0;

        for (int j = 0; !again && j < n; j++)
            again = X509_cmp(all[i], out[j]) == 0;
        if (again)
            X509_free(all[i]);
        else
            out[n++] = all[i];
    }
    free(all);
    return n;
}

static bool write_chain(X509 **chain, int n, struct buf *out, struct err *err)
{
    bool ok = true;

    for (int i = 0; ok && i < n; i++)
        ok = pem_add(out, chain[i]) || err_set(err, E_LIMIT, "The certificate chain is too long.");
    return ok;
}

/* Names the certificate that found no place, and the one whose place is empty. */
static bool refuse_stranger(X509 *leaf, X509 *last, X509 *stranger, struct err *err)
{
    char *stray = name_line(X509_get_subject_name(stranger)),
         *name = name_line(X509_get_subject_name(leaf)),
         *missing = name_line(X509_get_issuer_name(last)),
         *end = name_line(X509_get_subject_name(last));

    if (is_signed_by(last, last))
        err_set(err, E_INVALID, "\"%.120s\" is not part of the chain of \"%.120s\". Leave it out.",
                stray, name);
    else
        err_set(err, E_INVALID,
                "\"%.100s\" is not part of the chain of \"%.80s\": behind \"%.80s\" the "
                "certificate of \"%.100s\" is missing. Add that one, or leave the other out.",
                stray, name, end, missing);
    free(stray);
    free(name);
    free(missing);
    free(end);
    return false;
}

bool x509_order_chain(const char *leaf_pem, const char *chain_pem, struct buf *out, struct err *err)
{
    AUTO_X509 leaf = pem_first(leaf_pem, err);
    X509 *chain[X509_MAX_CHAIN];
    int n = leaf ? read_chain(leaf, chain_pem, chain, X509_MAX_CHAIN, err) : -1, placed;
    bool ok = n >= 0;

    placed = ok ? sort_chain(leaf, chain, n) : 0;
    if (ok && placed < n)
        ok = refuse_stranger(leaf, placed ? chain[placed - 1] : leaf, chain[placed], err);
    ok = ok && write_chain(chain, n, out, err);
    for (int i = 0; i < n; i++)
        X509_free(chain[i]);
    return ok;
}

bool x509_pick_chain(const char *leaf_pem, const char *pool_pem, struct buf *out,
                     struct strlist *strangers, struct err *err)
{
    AUTO_X509 leaf = pem_first(leaf_pem, err);
    X509 **pool = xcalloc(X509_MAX_POOL, sizeof(X509 *));
    int n = leaf ? read_chain(leaf, pool_pem, pool, X509_MAX_POOL, err) : -1, placed;
    bool ok = n >= 0;

    placed = ok ? sort_chain(leaf, pool, n) : 0;
    if (placed > X509_MAX_CHAIN)
        ok = err_set(err, E_LIMIT, "The chain is longer than %d certificates.", X509_MAX_CHAIN);
    ok = ok && write_chain(pool, placed, out, err);
    for (int i = 0; i < n; i++) {
        if (ok && i >= placed && strangers->n < 20) {
            char *name = name_line(X509_get_subject_name(pool[i]));

            strlist_add(strangers, name);
            free(name);
        }
        X509_free(pool[i]);
    }
    free(pool);
    return ok;
}

bool x509_leave_out(const char *chain_pem, const char *sha256, struct buf *out, struct err *err)
{
    X509 *chain[X509_MAX_CHAIN];
    int n = pem_all(chain_pem, chain, X509_MAX_CHAIN, err);
    bool ok = n >= 0, found = false;

    for (int i = 0; i < n; i++) {
        struct x509_facts f;

        facts_of(chain[i], &f);
        if (str_ieq(f.sha256, sha256))
            found = true;
        else
            ok = ok && pem_add(out, chain[i]);
        x509_facts_free(&f);
        X509_free(chain[i]);
    }
    if (n >= 0 && !found)
        return err_set(err, E_NOT_FOUND, "The profile has no such intermediate certificate.");
    return ok;
}

int x509_read_all(const char *pem, struct x509_facts *out, int max, struct err *err)
{
    X509 **all = xcalloc((size_t)max, sizeof(*all));
    int n = pem_all(pem, all, max, err);

    for (int i = 0; i < n; i++) {
        facts_of(all[i], &out[i]);
        X509_free(all[i]);
    }
    free(all);
    return n;
}
