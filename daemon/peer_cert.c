/* peer_cert.c - see peer_cert.h. */
#include "daemon/peer_cert.h"

#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"

static bool refuse(char *why, size_t size, const char *what, const char *value)
{
    snprintf(why, size, "%s%s%s", what, value ? " " : "", value ? str_printable(value) : "");
    return false;
}

/* A string of the certificate, whole: one with a NUL inside is nobody's name. */
static bool name_of(const ASN1_STRING *s, char *out, size_t size)
{
    int n = ASN1_STRING_length(s);
    const unsigned char *p = ASN1_STRING_get0_data(s);

    *out = '\0';
    if (n < 0 || (size_t)n >= size || memchr(p, 0, (size_t)n))
        return false;
    memcpy(out, p, (size_t)n);
    out[n] = '\0';
    return true;
}

static bool is_fqdn(const char *name)
{
    return host_is_fqdn(str_starts(name, "*.") ? name + 2 : name);
}

bool peer_cert_fqdn_ok(X509 *cert, char *why, size_t size)
{
    GENERAL_NAMES *sans = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    X509_NAME *subject = X509_get_subject_name(cert);
    char name[256];
    bool ok = true;
    size_t seen = 0;

    ERR_clear_error();
    for (int i = 0; ok && i < sk_GENERAL_NAME_num(sans); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(sans, i);

        if (g->type != GEN_DNS)
            continue;
        seen++;
        if (!name_of(g->d.dNSName, name, sizeof(name)) || !is_fqdn(name))
            ok = refuse(why, size, "a DNS name of the peer cert is not fully qualified:", name);
    }
    for (int i = -1; ok && (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;) {
        seen++;
        if (!name_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), name,
                     sizeof(name)) ||
            !is_fqdn(name))
            ok =
                refuse(why, size, "the common name of the peer cert is not fully qualified:", name);
    }
    if (ok && !seen)
        ok = refuse(why, size, "the peer cert has neither a common name nor a DNS name", NULL);
    GENERAL_NAMES_free(sans);
    return ok;
}

/* Ed25519 and Ed448 have no digest of their own and are fine; a digest of less than 112 bits of
 * security is not. */
static bool signature_ok(X509 *cert)
{
    int digest = NID_undef, bits = 0;

    return X509_get_signature_info(cert, &digest, NULL, &bits, NULL) == 1 && bits >= 112 &&
           digest != NID_md5 && digest != NID_sha1 && digest != NID_md5_sha1;
}

bool peer_cert_form_ok(X509 *cert, char *why, size_t size)
{
    if (X509_get_version(cert) != X509_VERSION_3)
        return refuse(why, size, "the peer cert is not of X.509 version 3", NULL);
    if (!signature_ok(cert))
        return refuse(why, size, "the signature algorithm of the peer cert is too weak:",
                      OBJ_nid2sn(X509_get_signature_nid(cert)));
    return true;
}

bool peer_cert_x509_ok(X509 *cert, const char *const *names, size_t n, char *why, size_t size)
{
    bool named = false;

    if (!peer_cert_form_ok(cert, why, size))
        return false;
    for (size_t i = 0; i < n && !named; i++)
        named = names[i] && *names[i] && X509_check_host(cert, names[i], 0, 0, NULL) == 1;
    ERR_clear_error();
    return named || refuse(why, size, "the peer cert does not have the name of the server", NULL);
}
