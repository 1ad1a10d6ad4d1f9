/* pkcs12.c - see pkcs12.h. The bags are walked here and not by PKCS12_parse, which takes the last
 * of several keys without a word. */
#include "store/pkcs12.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/x509.h"
#include "store/x509_lib.h"

#define MAX_CERTIFICATES X509_MAX_POOL
#define MAX_KEYS 50
#define MAX_DEPTH 4 /* bags within bags */
#define WRITE_ROUNDS 200000
#define OLD_ROUNDS 2048

/* --- the library context of old ciphers --- */

static OSSL_LIB_CTX *apart;
static pthread_once_t apart_once = PTHREAD_ONCE_INIT;

static void make_apart(void)
{
    apart = OSSL_LIB_CTX_new();
    if (apart && (!OSSL_PROVIDER_load(apart, "default") || !OSSL_PROVIDER_load(apart, "legacy")))
        ERR_clear_error(); /* without the module only old files fail, and say why */
}

static OSSL_LIB_CTX *library(void)
{
    pthread_once(&apart_once, make_apart);
    return apart;
}

/* --- reading --- */

struct found_key {
    EVP_PKEY *key;
    X509 *leaf; /* borrowed from certs; NULL: none of them belongs to it */
    char *name; /* the friendly name, escaped; or NULL */
};

struct reading {
    const char *pass;
    int pass_length;
    struct found_key keys[MAX_KEYS];
    X509 **certs;
    int n_keys, n_certs;
    uint64_t rounds;
    bool old_cipher,
        sealed; /* sealed: the file is as it was made, and the pass phrase is its own */
    struct err *err;
};

static bool damaged(struct err *err)
{
    ERR_clear_error();
    return err_set(
        err, E_INVALID,
        "The PKCS#12 file is damaged or incomplete. Export it again where it came from.");
}

/* What cannot be decrypted: an unknown cipher, or what the pass phrase is not for. With the seal
 * intact it can only be the contents. */
static bool not_opened(struct reading *r)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);

    if (e && (reason == ERR_R_UNSUPPORTED || reason == EVP_R_UNKNOWN_PBE_ALGORITHM ||
              reason == EVP_R_UNSUPPORTED_CIPHER || reason == EVP_R_UNSUPPORTED_ALGORITHM)) {
        ERR_clear_error();
        return err_set(r->err, E_INVALID,
                       "The PKCS#12 file is protected with an algorithm that is not supported. "
                       "Export it with AES-256-CBC.");
    }
    if (r->sealed)
        return damaged(r->err);
    ERR_clear_error();
    return err_set(r->err, E_DENIED, "The pass phrase is wrong.");
}

static uint64_t at_most(const ASN1_INTEGER *n)
{
    uint64_t v;

    return n && ASN1_INTEGER_get_uint64(&v, n) && v >= 1 && v <= CERT_FILE_ROUNDS
               ? v
               : CERT_FILE_ROUNDS + 1;
}

static bool add_cost(uint64_t *rounds, uint64_t more, struct err *err)
{
    *rounds += more;
    ERR_clear_error();
    return *rounds <= CERT_FILE_ROUNDS ||
           err_set(err, E_LIMIT,
                   "The file asks for more than %d rounds of key derivation. Export it with fewer "
                   "iterations.",
                   CERT_FILE_ROUNDS);
}

static bool add_rounds(uint64_t *rounds, const ASN1_INTEGER *n, struct err *err)
{
    return add_cost(rounds, n ? at_most(n) : 1, err);
}

/* The library limits what scrypt takes of memory, not the hours that p times as much of it takes.
 * One unit of N * r * p is about as long as a round of PBKDF2. */
static bool add_scrypt(uint64_t *rounds, const ASN1_TYPE *parameter, struct err *err)
{
    SCRYPT_PARAMS *s = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(SCRYPT_PARAMS), parameter);
    uint64_t cost;

    if (!s)
        return damaged(err);
    cost = at_most(s->costParameter) * at_most(s->blockSize); /* 45 bits */
    if (cost <= CERT_FILE_ROUNDS)
        cost *= at_most(s->parallelizationParameter);
    SCRYPT_PARAMS_free(s);
    return add_cost(rounds, cost > CERT_FILE_ROUNDS ? CERT_FILE_ROUNDS + 1 : cost, err);
}

static bool pbes2_rounds(const ASN1_TYPE *parameter, uint64_t *rounds, bool *old, struct err *err)
{
    PBE2PARAM *p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBE2PARAM), parameter);
    PBKDF2PARAM *kdf;
    bool ok = true;
    int cipher;

    if (!p)
        return damaged(err);
    cipher = OBJ_obj2nid(p->encryption->algorithm);
    *old = cipher == NID_des_ede3_cbc || cipher == NID_des_cbc || cipher == NID_rc2_cbc;
    if (OBJ_obj2nid(p->keyfunc->algorithm) == NID_id_pbkdf2) {
        kdf = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBKDF2PARAM), p->keyfunc->parameter);
        ok = kdf ? add_rounds(rounds, kdf->iter, err) : damaged(err);
        PBKDF2PARAM_free(kdf);
    } else if (OBJ_obj2nid(p->keyfunc->algorithm) == NID_id_scrypt) {
        ok = add_scrypt(rounds, p->keyfunc->parameter, err);
    } else {
        ok = err_set(err, E_INVALID,
                     "The key of the file is derived with %s, which is not supported. Export it "
                     "with PBKDF2.",
                     OBJ_nid2ln(OBJ_obj2nid(p->keyfunc->algorithm)));
    }
    PBE2PARAM_free(p);
    return ok;
}

bool pkcs12_rounds(const X509_ALGOR *a, uint64_t *rounds, bool *old, struct err *err)
{
    PBEPARAM *p;
    bool ok;

    if (!a)
        return damaged(err);
    if (OBJ_obj2nid(a->algorithm) == NID_pbes2)
        return pbes2_rounds(a->parameter, rounds, old, err);
    *old = true;
    p = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(PBEPARAM), a->parameter);
    ok = p ? add_rounds(rounds, p->iter, err) : damaged(err);
    PBEPARAM_free(p);
    return ok;
}

static bool count_rounds(struct reading *r, const X509_ALGOR *a)
{
    bool old = false, ok = pkcs12_rounds(a, &r->rounds, &old, r->err);

    r->old_cipher |= old;
    return ok;
}

static bool add_key(struct reading *r, const PKCS8_PRIV_KEY_INFO *p8, PKCS12_SAFEBAG *bag)
{
    char *name = PKCS12_get_friendlyname(bag);
    AUTO(buf) struct buf escaped = BUF_INIT(400);
    EVP_PKEY *key = EVP_PKCS82PKEY(p8);

    ERR_clear_error();
    if (name)
        str_escape(&escaped, name, strnlen(name, 80));
    OPENSSL_free(name);
    if (!key)
        return err_set(r->err, E_INVALID,
                       "The PKCS#12 file holds a private key of a kind that "
                       "cannot be read. Use RSA, ECDSA or Ed25519.");
    if (r->n_keys == MAX_KEYS) {
        EVP_PKEY_free(key);
        return err_set(r->err, E_LIMIT, "The PKCS#12 file holds more than %d keys.", MAX_KEYS);
    }
    r->keys[r->n_keys++] = (struct found_key){key, NULL, escaped.n ? buf_take(&escaped) : NULL};
    return true;
}

static bool add_shrouded(struct reading *r, PKCS12_SAFEBAG *bag)
{
    const X509_SIG *sig = PKCS12_SAFEBAG_get0_pkcs8(bag);
    const X509_ALGOR *algorithm = NULL;
    PKCS8_PRIV_KEY_INFO *p8;
    bool ok;

    X509_SIG_get0(sig, &algorithm, NULL);
    if (!count_rounds(r, algorithm))
        return false;
    p8 = PKCS12_decrypt_skey_ex(bag, r->pass, r->pass_length, library(), NULL);
    if (!p8)
        return not_opened(r);
    ok = add_key(r, p8, bag);
    PKCS8_PRIV_KEY_INFO_free(p8);
    return ok;
}

static bool add_certificate(struct reading *r, PKCS12_SAFEBAG *bag)
{
    X509 *x = PKCS12_SAFEBAG_get_bag_nid(bag) == NID_x509Certificate ? PKCS12_SAFEBAG_get1_cert(bag)
                                                                     : NULL;

    ERR_clear_error();
    if (!x)
        return PKCS12_SAFEBAG_get_bag_nid(bag) != NID_x509Certificate || damaged(r->err);
    if (r->n_certs == MAX_CERTIFICATES) {
        X509_free(x);
        return err_set(r->err, E_LIMIT, "The PKCS#12 file holds more than %d certificates.",
                       MAX_CERTIFICATES);
    }
    r->certs[r->n_certs++] = x;
    return true;
}

static bool walk(struct reading *r, const STACK_OF(PKCS12_SAFEBAG) * bags, int depth)
{
    bool ok = true;

    for (int i = 0; ok && i < sk_PKCS12_SAFEBAG_num(bags); i++) {
        PKCS12_SAFEBAG *bag = sk_PKCS12_SAFEBAG_value(bags, i);

        switch (PKCS12_SAFEBAG_get_nid(bag)) {
        case NID_keyBag:
            ok = add_key(r, PKCS12_SAFEBAG_get0_p8inf(bag), bag);
            break;
        case NID_pkcs8ShroudedKeyBag:
            ok = add_shrouded(r, bag);
            break;
        case NID_certBag:
            ok = add_certificate(r, bag);
            break;
        case NID_safeContentsBag:
            ok = depth < MAX_DEPTH ? walk(r, PKCS12_SAFEBAG_get0_safes(bag), depth + 1)
                                   : damaged(r->err);
            break;
        default: /* CRLs and secrets are not ours */
            break;
        }
    }
    return ok;
}

/* One safe: plain, or encrypted with the pass phrase. */
static bool open_safe(struct reading *r, PKCS7 *p7)
{
    STACK_OF(PKCS12_SAFEBAG) *bags = NULL;
    bool ok;

    switch (OBJ_obj2nid(p7->type)) {
    case NID_pkcs7_data:
        bags = PKCS12_unpack_p7data(p7);
        if (!bags)
            return damaged(r->err);
        break;
    case NID_pkcs7_encrypted:
        if (!p7->d.encrypted || !p7->d.encrypted->enc_data || !p7->d.encrypted->enc_data->enc_data)
            return damaged(r->err);
        if (!count_rounds(r, p7->d.encrypted->enc_data->algorithm))
            return false;
        bags = PKCS12_unpack_p7encdata(p7, r->pass, r->pass_length);
        if (!bags)
            return not_opened(r);
        break;
    default:
        return err_set(r->err, E_INVALID,
                       "The PKCS#12 file is protected with a public key instead of a pass phrase. "
                       "Export it again with a pass phrase.");
    }
    ok = walk(r, bags, 0);
    sk_PKCS12_SAFEBAG_pop_free(bags, PKCS12_SAFEBAG_free);
    return ok;
}

static bool open_safes(struct reading *r, PKCS12 *p12)
{
    STACK_OF(PKCS7) *safes = PKCS12_unpack_authsafes(p12);
    bool ok = safes || damaged(r->err);

    for (int i = 0; ok && i < sk_PKCS7_num(safes); i++)
        ok = open_safe(r, sk_PKCS7_value(safes, i));
    sk_PKCS7_pop_free(safes, PKCS7_free);
    ERR_clear_error();
    return ok;
}

static void forget(struct reading *r)
{
    for (int i = 0; i < r->n_keys; i++) {
        EVP_PKEY_free(r->keys[i].key);
        free(r->keys[i].name);
    }
    for (int i = 0; i < r->n_certs; i++)
        X509_free(r->certs[i]);
    r->n_keys = r->n_certs = 0;
}

/* The seal over the file is made with the pass phrase too, so a broken one means either. When the
 * contents open all the same, it was not the pass phrase. */
static bool check_seal(struct reading *r, PKCS12 *p12)
{
    const ASN1_INTEGER *rounds = NULL;
    bool empty = !*r->pass;

    if (!PKCS12_mac_present(p12))
        return true;
    PKCS12_get0_mac(NULL, NULL, NULL, &rounds, p12);
    if (!add_rounds(&r->rounds, rounds, r->err))
        return false;
    if (empty && PKCS12_verify_mac(p12, NULL, 0)) {
        r->pass = NULL;
        return r->sealed = true;
    }
    if (PKCS12_verify_mac(p12, r->pass, r->pass_length))
        return r->sealed = true;
    ERR_clear_error();
    if (open_safes(r, p12) && r->n_keys + r->n_certs)
        return damaged(r->err);
    if (r->err->code == E_DENIED) /* nothing opens: both agree */
        return false;
    return err_set(r->err, E_DENIED,
                   "The pass phrase is wrong, or the PKCS#12 file was changed on its way.");
}

static void pair(struct reading *r)
{
    for (int i = 0; i < r->n_keys; i++)
        for (int k = 0; !r->keys[i].leaf && k < r->n_certs; k++)
            if (X509_get0_pubkey(r->certs[k]) &&
                EVP_PKEY_eq(X509_get0_pubkey(r->certs[k]), r->keys[i].key) == 1)
                r->keys[i].leaf = r->certs[k];
    ERR_clear_error();
}

static char *key_title(const struct found_key *k)
{
    char *subject = k->leaf ? name_line(X509_get_subject_name(k->leaf)) : NULL,
         *title = xasprintf("%s%s%s%s", k->name ? k->name : "", k->name && subject ? " (" : "",
                            subject   ? subject
                            : k->name ? ""
                                      : "a key without a certificate",
                            k->name && subject ? ")" : "");

    free(subject);
    return title;
}

static const struct found_key *choose(struct reading *r, unsigned which, struct cert_file *out)
{
    AUTO(buf) struct buf names = BUF_INIT(300);
    int n = 0, only = 0;

    for (int i = 0; i < r->n_keys; i++) {
        char *title = key_title(&r->keys[i]);

        if (r->keys[i].leaf) {
            n++;
            only = i;
        }
        strlist_add(&out->keys, title);
        buf_printf(&names, "%s%d %s", i ? ", " : "", i + 1, title);
        free(title);
    }
    if (which > (unsigned)r->n_keys) {
        err_set(r->err, E_NOT_FOUND, "The PKCS#12 file has %d key%s, not %u.", r->n_keys,
                r->n_keys == 1 ? "" : "s", which);
        return NULL;
    }
    if (which)
        return &r->keys[which - 1];
    if (n > 1) {
        err_set(r->err, E_CONFLICT,
                "The PKCS#12 file holds %d keys. Say which one with key=NUMBER: %s%s", r->n_keys,
                buf_str(&names), names.full ? " ..." : "");
        return NULL;
    }
    return &r->keys[only];
}

/* What the other keys are for was left out by whoever chose this one: that is no news. */
static void drop_other_leaves(const struct reading *r, const struct found_key *chosen,
                              struct strlist *strangers)
{
    for (int i = 0; i < r->n_keys; i++) {
        char *name;

        if (!r->keys[i].leaf || r->keys[i].leaf == chosen->leaf)
            continue;
        name = name_line(X509_get_subject_name(r->keys[i].leaf));
        for (size_t k = strangers->n; k-- > 0;) {
            if (!str_eq(strangers->items[k], name))
                continue;
            free(strangers->items[k]);
            strangers->items[k] = strangers->items[--strangers->n];
        }
        free(name);
    }
}

static bool hand_over(struct reading *r, unsigned which, struct cert_file *out)
{
    AUTO(buf) struct buf pool = BUF_INIT((size_t)8 << 20);
    const struct found_key *k;

    pair(r);
    if (!r->n_keys)
        return err_set(r->err, E_INVALID,
                       r->n_certs ? "The PKCS#12 file holds certificates but no private key. "
                                    "Export it with the private key."
                                  : "The PKCS#12 file is empty.");
    k = choose(r, which, out);
    if (!k || !key_is_usable(k->key, r->err))
        return false;
    if (!k->leaf)
        return err_set(r->err, E_INVALID,
                       "The PKCS#12 file holds no certificate for its private key. Export both "
                       "together.");
    for (int i = 0; i < r->n_certs; i++)
        if (!pem_add(&pool, r->certs[i]))
            return err_set(r->err, E_LIMIT, "The certificates of the PKCS#12 file are too long.");
    if (!pem_add(&out->certificate, k->leaf))
        return err_set(r->err, E_LIMIT, "The certificate is too long.");
    if (!pem_add_key(&out->private_key, k->key, r->err) ||
        !x509_pick_chain(buf_str(&out->certificate), buf_str(&pool), &out->intermediates,
                         &out->strangers, r->err))
        return false;
    drop_other_leaves(r, k, &out->strangers);
    return true;
}

static bool check_outside(const void *der, size_t n, struct err *err)
{
    if (n > CERT_FILE_MAX)
        return err_set(err, E_LIMIT, "A PKCS#12 file may have at most %u bytes.", CERT_FILE_MAX);
    if (n > 10 && memmem(der, n > 4096 ? 4096 : n, "-----BEGIN", 10))
        return err_set(err, E_INVALID, "This is a PEM text, not a PKCS#12 file.");
    return true;
}

bool pkcs12_read(const void *der, size_t n, const char *pass, unsigned which, struct cert_file *out,
                 struct err *err)
{
    const unsigned char *p = der;
    struct err own = {0};
    struct reading r = {.pass = pass ? pass : "", .err = err ? err : &own};
    PKCS12 *p12;
    bool ok;

    cert_file_init(out);
    if (!check_outside(der, n, r.err))
        return false;
    r.pass_length = (int)strlen(r.pass);
    p12 = PKCS12_init_ex(NID_pkcs7_data, library(), NULL);
    if (!p12 || !d2i_PKCS12(&p12, &p, (long)n) ||
        !p12) { /* which frees and clears p12 when it fails */
        ERR_clear_error();
        return n > 0 && *(const unsigned char *)der == 0x30
                   ? damaged(r.err)
                   : err_set(r.err, E_INVALID, "This is not a PKCS#12 file.");
    }
    r.certs = xcalloc(MAX_CERTIFICATES, sizeof(X509 *));
    ok = check_seal(&r, p12) && open_safes(&r, p12) && hand_over(&r, which, out);
    out->old_cipher = r.old_cipher;
    forget(&r);
    free(r.certs);
    PKCS12_free(p12);
    ERR_clear_error();
    return ok;
}

/* --- writing --- */

static STACK_OF(X509) * stack_of(X509 **chain, int n)
{
    STACK_OF(X509) *s = sk_X509_new_null();

    for (int i = 0; i < n; i++)
        sk_X509_push(s, chain[i]);
    return s;
}

static PKCS12 *make(X509 *leaf, EVP_PKEY *key, STACK_OF(X509) * chain, const char *name,
                    const char *pass, bool old)
{
    int cipher = old ? NID_pbe_WithSHA1And3_Key_TripleDES_CBC : NID_aes_256_cbc,
        rounds = old ? OLD_ROUNDS : WRITE_ROUNDS;
    PKCS12 *p12 = PKCS12_create_ex(pass, name, key, leaf, chain, cipher, cipher, rounds, -1, 0,
                                   library(), NULL);

    if (p12 && !PKCS12_set_mac(p12, pass, -1, NULL, 0, rounds, old ? EVP_sha1() : EVP_sha256())) {
        PKCS12_free(p12);
        p12 = NULL;
    }
    return p12;
}

bool pkcs12_write(const char *certificate, const char *intermediates, const char *private_key,
                  const char *name, const char *pass, bool old, struct buf *out, struct err *err)
{
    AUTO_X509 leaf = pem_first(certificate, err);
    AUTO_PKEY key = leaf ? pem_key(private_key, err) : NULL;
    X509 *all[X509_MAX_CHAIN];
    int n = key ? pem_all(intermediates, all, X509_MAX_CHAIN, err) : -1, length = -1;
    STACK_OF(X509) *chain = n >= 0 ? stack_of(all, n) : NULL;
    PKCS12 *p12 = chain ? make(leaf, key, chain, name, pass, old) : NULL;
    unsigned char *der = NULL;

    if (p12)
        length = i2d_PKCS12(p12, &der);
    if (length > 0)
        buf_add(out, der, (size_t)length);
    else if (chain)
        openssl_failed(err, "making the PKCS#12 file");
    OPENSSL_clear_free(der, length > 0 ? (size_t)length : 0);
    PKCS12_free(p12);
    sk_X509_pop_free(chain, X509_free);
    return length > 0 && (!out->full || err_set(err, E_LIMIT, "The PKCS#12 file is too long."));
}
