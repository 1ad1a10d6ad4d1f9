/* crl_verify.c - the signature of a revocation list, over the bytes as they came; see crl_list.h.
 * The library's own call would encode them anew, which a list of fifty megabytes would notice. */
#include "daemon/crl_list.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "store/base/str.h"

struct algorithm {
    const EVP_MD *digest; /* NULL: the key knows (Ed25519) */
    int key; /* kind of key: NID */
    bool pss;
    const EVP_MD *mask;
    int salt;
};

static bool refused(struct err *err, const char *name)
{
    return err_set(err, E_INVALID,
                   "The list is signed with %s, which is not accepted: have the authority sign its "
                   "lists with SHA-256 or better.",
                   name);
}

static bool strong(const EVP_MD *md)
{
    return md && EVP_MD_get_size(md) >= 28;
}

/* RFC 4055 section 3.1 */
static bool pss_parameters(const X509_ALGOR *a, struct algorithm *out, struct err *err)
{
    const ASN1_OBJECT *oid;
    const void *value;
    RSA_PSS_PARAMS *p = NULL;
    X509_ALGOR *mask = NULL;
    int type;
    bool ok;

    X509_ALGOR_get0(&oid, &type, &value, a);
    if (type == V_ASN1_SEQUENCE)
        p = ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS));
    out->digest = out->mask = EVP_sha1(); /* what the parameters mean that are not there */
    out->salt = 20;
    ok = p != NULL;
    if (ok && p->hashAlgorithm)
        out->digest = EVP_get_digestbyobj(p->hashAlgorithm->algorithm);
    if (ok && p->maskGenAlgorithm) {
        ok = OBJ_obj2nid(p->maskGenAlgorithm->algorithm) == NID_mgf1 &&
             p->maskGenAlgorithm->parameter &&
             p->maskGenAlgorithm->parameter->type == V_ASN1_SEQUENCE;
        mask = ok ? ASN1_item_unpack(p->maskGenAlgorithm->parameter->value.sequence,
                                     ASN1_ITEM_rptr(X509_ALGOR))
                  : NULL;
        ok = mask != NULL;
        out->mask = mask ? EVP_get_digestbyobj(mask->algorithm) : NULL;
    }
    if (ok && p->saltLength)
        out->salt = (int)ASN1_INTEGER_get(p->saltLength);
    if (ok && p->trailerField)
        ok = ASN1_INTEGER_get(p->trailerField) == 1;
    ok = ok && out->digest && out->mask && out->salt >= 0 && out->salt <= 512;
    X509_ALGOR_free(mask);
    RSA_PSS_PARAMS_free(p);
    if (!ok)
        return err_set(err, E_INVALID,
                       "The list cannot be used: the parameters of its RSA-PSS "
                       "signature are damaged.");
    return strong(out->digest) || refused(err, "RSA-PSS and SHA-1");
}

static bool read_algorithm(const struct crl_signed *sig, struct algorithm *out, struct err *err)
{
    const unsigned char *p = sig->algorithm;
    X509_ALGOR *a = d2i_X509_ALGOR(NULL, &p, (long)sig->algorithm_len);
    int nid = a ? OBJ_obj2nid(a->algorithm) : NID_undef, digest = NID_undef;
    char name[80] = "an unknown algorithm";
    bool ok = false;

    *out = (struct algorithm){0};
    if (a)
        OBJ_obj2txt(name, sizeof(name), a->algorithm, 0);
    if (!a || !OBJ_find_sigid_algs(nid, &digest, &out->key)) {
        err_set(err, E_INVALID, "The list is signed with %s, which is not supported.",
                str_printable(name));
    } else if (nid == NID_rsassaPss) {
        out->pss = true;
        out->key = NID_rsaEncryption;
        ok = pss_parameters(a, out, err);
    } else if (digest == NID_undef) {
        ok = nid == NID_ED25519 || nid == NID_ED448 || refused(err, str_printable(name));
    } else {
        out->digest = EVP_get_digestbynid(digest);
        ok = strong(out->digest) || refused(err, str_printable(name));
    }
    X509_ALGOR_free(a);
    return ok;
}

static bool fits(const EVP_PKEY *key, const struct algorithm *a)
{
    int kind = EVP_PKEY_get_base_id(key);

    return kind == a->key || (a->pss && kind == EVP_PKEY_RSA_PSS);
}

static bool signature_ok(const struct crl_signed *sig, const struct algorithm *a, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *of_key = NULL;
    bool ok =
        ctx && key && fits(key, a) && EVP_DigestVerifyInit(ctx, &of_key, a->digest, NULL, key) == 1;

    if (ok && a->pss)
        ok = EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(of_key, a->mask) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(of_key, a->salt) > 0;
    ok = ok &&
         EVP_DigestVerify(ctx, sig->signature, sig->signature_len, sig->tbs, sig->tbs_len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

void crl_key_digest(const X509 *authority, unsigned char out[32])
{
    const X509_PUBKEY *key = X509_get_X509_PUBKEY(authority);
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(key, &der);

    memset(out, 0, 32);
    if (n > 0)
        EVP_Digest(der, (size_t)n, out, NULL, EVP_sha256(), NULL);
    OPENSSL_free(der);
}

/* Both say which key it is, and they say different things. */
static bool other_key(const struct crl_list *l, X509 *x)
{
    const ASN1_OCTET_STRING *id = X509_get0_subject_key_id(x);

    return id && l->key_id_len &&
           ((unsigned)ASN1_STRING_length(id) != l->key_id_len ||
            memcmp(ASN1_STRING_get0_data(id), l->key_id, l->key_id_len) != 0);
}

static bool may_sign(X509 *x)
{
    return X509_get_key_usage(x) == UINT32_MAX || X509_get_key_usage(x) & KU_CRL_SIGN;
}

bool crl_verify(struct crl_list *l, const struct crl_signed *sig,
                const STACK_OF(X509) * authorities, struct err *err)
{
    bool key_id = false, usage = false;
    struct algorithm a;

    if (sk_X509_num(authorities) <= 0)
        return err_set(err, E_NOT_FOUND,
                       "The issuer of the list (%s) is not among the certificate authorities: "
                       "import its certificate with certconfig > certauthority.",
                       l->issuer_text);
    if (!read_algorithm(sig, &a, err))
        return false;
    for (int i = 0; i < sk_X509_num(authorities); i++) {
        X509 *x = sk_X509_value(authorities, i);

        if (X509_NAME_cmp(X509_get_subject_name(x), l->issuer) != 0 || other_key(l, x))
            continue;
        key_id = true;
        if (!may_sign(x))
            continue;
        usage = true;
        if (signature_ok(sig, &a, X509_get0_pubkey(x))) {
            crl_key_digest(x, l->authority);
            return true;
        }
    }
    if (!key_id)
        return err_set(err, E_NOT_FOUND,
                       "The list was signed with another key of its issuer (%s) than those of the "
                       "certificate authorities: import the certificate of that key with "
                       "certconfig > certauthority.",
                       l->issuer_text);
    if (!usage)
        return err_set(err, E_INVALID,
                       "The certificate of the list's issuer (%s) does not allow to sign lists: "
                       "its key usage lacks cRLSign.",
                       l->issuer_text);
    return err_set(err, E_INVALID,
                   "The signature of the list is wrong: its issuer (%s) did not sign it, or it was "
                   "changed on the way.",
                   l->issuer_text);
}
