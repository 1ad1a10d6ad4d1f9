/* trust.c - see trust.h. What is in force is one pointer under a mutex; a state is built on a
 * worker thread and never changed afterwards. The X509_STORE inside has its own lock and serves any
 * number of handshakes. */
#include "daemon/trust.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "daemon/commit.h"
#include "daemon/reload.h"
#include "daemon/worker.h"
#include "store/authorities.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/x509.h"

#define BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define PACKAGES "/var/lib/dpkg/status"
#define MAX_BUNDLE (16u << 20)
#define MAX_SYSTEM 5000u
#define MAX_NAMES 64
#define MAX_NAME 1000 /* bytes; so all of them fit in one record or four */

struct trust {
    X509_STORE *store;
    STACK_OF(X509_NAME) *names; /* of the custom list */
    struct bundle *system;
    unsigned char digest[32]; /* of what was put in */
    uint64_t id;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct trust *current; /* the pointer under lock; replaced under the commit mutex only */

/* --- the system list ------------------------------------------------------------------------- */

static struct bundle *bundle_ref(struct bundle *b)
{
    __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void bundle_free(struct bundle **bp)
{
    struct bundle *b = *bp;

    *bp = NULL;
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
        return;
    sk_X509_pop_free(b->certificates, X509_free);
    free(b->path);
    free(b);
}

static bool read_file(const char *path, struct buf *out, usec_t *written, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n = 0;
    char *p;

    if (fd < 0 || fstat(fd, &st) != 0) {
        err_errno(err, errno, "reading %s", path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    *written = (usec_t)st.st_mtim.tv_sec * 1000000;
    while (S_ISREG(st.st_mode) && (p = buf_reserve(out, 65536)) && (n = read(fd, p, 65536)) > 0)
        out->n += (size_t)n;
    if (n < 0)
        err_errno(err, errno, "reading %s", path);
    close(fd);
    if (n < 0)
        return false;
    if (!S_ISREG(st.st_mode) || out->full || n > 0)
        return err_set(err, E_INVALID, "reading %s: it is not a file of at most %u MiB", path,
                       MAX_BUNDLE >> 20);
    return true;
}

/* The version of the package that the bundle belongs to, as dpkg wrote it down. */
static void package_version(char *out, size_t size)
{
    FILE *f = fopen(PACKAGES, "re");
    char line[512];
    bool here = false;

    out[0] = '\0';
    while (f && !*out && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (str_starts(line, "Package: "))
            here = str_eq(line + 9, "ca-certificates");
        else if (here && str_starts(line, "Version: "))
            str_copy(out, size, str_printable(line + 9));
    }
    if (f)
        fclose(f);
}

static void set_version(struct bundle *b)
{
    if (str_eq(b->path, BUNDLE))
        package_version(b->version, sizeof(b->version));
    if (!*b->version) {
        str_copy(b->version, sizeof(b->version), "sha256:");
        for (int i = 0; i < 8; i++)
            snprintf(b->version + 7 + 2 * i, 3, "%02x", b->digest[i]);
    }
}

static void add_digest(EVP_MD_CTX *md, const X509 *x)
{
    unsigned char one[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;

    X509_digest(x, EVP_sha256(), one, &n);
    EVP_DigestUpdate(md, one, 32);
}

static struct bundle *bundle_new(const char *path)
{
    struct bundle *b = xcalloc(1, sizeof(*b));

    b->refs = 1;
    b->path = xstrdup(path);
    b->certificates = sk_X509_new_null();
    if (!b->certificates)
        abort();
    return b;
}

/* An empty bundle and false when there is none to read. */
static bool bundle_read(struct bundle **out, struct err *err)
{
    const char *named = getenv(X509_get_default_cert_file_env());
    struct bundle *b = bundle_new(named && *named ? named : BUNDLE);
    AUTO(buf) struct buf text = BUF_INIT(MAX_BUNDLE);
    struct authorities list = {0};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok;

    *out = b;
    ok = md && read_file(b->path, &text, &b->updated, err) &&
         (authorities_read(buf_str(&text), text.n, MAX_SYSTEM, false, &list, err) ||
          err_wrap(err, "reading %s", b->path));
    if (ok) {
        b->damaged = list.damaged;
        EVP_DigestInit_ex(md, EVP_sha256(), NULL);
        for (size_t i = 0; i < list.n; i++) {
            add_digest(md, list.items[i]);
            X509_up_ref(list.items[i]);
            sk_X509_push(b->certificates, list.items[i]);
        }
        EVP_DigestFinal_ex(md, b->digest, NULL);
        set_version(b);
    } else {
        b->updated = 0;
    }
    authorities_free(&list);
    EVP_MD_CTX_free(md);
    return ok;
}

static bool read_job(void *arg, struct err *err)
{
    return bundle_read(arg, err);
}

/* --- building -------------------------------------------------------------------------------- */

static void trust_free(struct trust *t)
{
    if (!t)
        return;
    X509_STORE_free(t->store);
    sk_X509_NAME_pop_free(t->names, X509_NAME_free);
    bundle_free(&t->system);
    free(t);
}

/* A member of a list is trusted for what it is, even when its own issuer is not listed: whoever
 * puts an intermediate or a partner's self-signed certificate there means that one. */
static X509_STORE *new_store(void)
{
    X509_STORE *s = X509_STORE_new();

    if (!s)
        abort();
    X509_STORE_set_flags(s, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);
    return s;
}

struct build {
    const struct config *cfg;
    struct trust *made;
};

static const struct authority *custom_at(const struct config *cfg, size_t i)
{
    const struct authority *a = config_at(cfg, &section_authority, i)->data;

    return a->enabled ? a : NULL;
}

/* What the lists hold, without looking into the certificates: it says whether anything has to be
 * built. */
static void digest_of(const struct config *cfg, const struct bundle *system, unsigned char out[32])
{
    const struct authority_setup *setup = CONFIG_SINGLE(cfg, authority_setup);
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
        abort();
    if (setup->system_list)
        EVP_DigestUpdate(md, system->digest, 32);
    EVP_DigestUpdate(md, setup->system_list ? "s" : "-", 1);
    for (size_t i = 0; setup->custom_list && i < config_count(cfg, &section_authority); i++)
        if (custom_at(cfg, i))
            EVP_DigestUpdate(md, config_at(cfg, &section_authority, i)->hash, 32);
    EVP_DigestFinal_ex(md, out, NULL);
    EVP_MD_CTX_free(md);
}

/* Its extensions are decoded now, and not by the first of those who will share it. */
static void add(X509_STORE *store, X509 *c)
{
    X509_check_purpose(c, -1, 0);
    X509_STORE_add_cert(store, c);
}

static bool build_job(void *arg, struct err *err)
{
    struct build *b = arg;
    const struct authority_setup *setup = CONFIG_SINGLE(b->cfg, authority_setup);
    const STACK_OF(X509) *system = b->made->system->certificates;

    for (int i = 0; setup->system_list && i < sk_X509_num(system); i++)
        add(b->made->store, sk_X509_value(system, i));
    for (size_t i = 0; setup->custom_list && i < config_count(b->cfg, &section_authority); i++) {
        const struct authority *a = custom_at(b->cfg, i);
        struct authorities one = {0};

        if (!a)
            continue;
        if (!authorities_read(a->certificate, strlen(a->certificate), 1, true, &one, err))
            return err_wrap(err, "certificate authority %s", a->name);
        add(b->made->store, one.items[0]);
        sk_X509_NAME_push(b->made->names, X509_NAME_dup(X509_get_subject_name(one.items[0])));
        authorities_free(&one);
    }
    return true;
}

/* A state for cfg and this list; nothing is built when the present one serves. Takes over system.
 * YIELDS */
static bool trust_new(const struct config *cfg, struct bundle *system, struct trust **out,
                      struct err *err)
{
    struct trust *t = xcalloc(1, sizeof(*t));
    struct build b = {cfg, t};

    t->system = system;
    digest_of(cfg, system, t->digest);
    memcpy(&t->id, t->digest, sizeof(t->id));
    if (current && !memcmp(current->digest, t->digest, sizeof(t->digest))) {
        X509_STORE_up_ref(current->store);
        t->store = current->store;
        t->names = sk_X509_NAME_deep_copy(current->names, X509_NAME_dup, X509_NAME_free);
    } else {
        t->store = new_store();
        t->names = sk_X509_NAME_new_null();
        if (!worker_call(build_job, &b, err)) { /* YIELDS */
            trust_free(t);
            return false;
        }
    }
    *out = t;
    return true;
}

static void put_in_force(struct trust *t)
{
    struct trust *old;

    pthread_mutex_lock(&lock);
    old = current;
    current = t;
    pthread_mutex_unlock(&lock);
    trust_free(old);
}

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    struct bundle *system = NULL;
    struct trust *t = NULL;
    struct err why = {0};

    (void)old; /* what is in force is known better here */
    if (current)
        system = bundle_ref(current->system);
    else if (!worker_call(read_job, &system, &why)) /* YIELDS */
        log_warning("The system list of certificate authorities is empty: %s. Install the package "
                    "ca-certificates and update the list with certconfig.",
                    why.text);
    if (!trust_new(cfg, system, &t, err)) /* YIELDS */
        return false;
    *state = t;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    (void)cfg;
    put_in_force(state);
}

static void discard(void *state)
{
    trust_free(state);
}

const struct reload_part reload_trust = {"certificate authorities", prepare, publish, discard};

/* --- calls ----------------------------------------------------------------------------------- */

X509_STORE *running_trust(void)
{
    X509_STORE *s = NULL;

    pthread_mutex_lock(&lock);
    if (current) {
        s = current->store;
        X509_STORE_up_ref(s);
    }
    pthread_mutex_unlock(&lock);
    return s ? s : new_store();
}

static bool fits(const STACK_OF(X509_NAME) *names)
{
    for (int i = 0; i < sk_X509_NAME_num(names); i++)
        if (i2d_X509_NAME(sk_X509_NAME_value(names, i), NULL) > MAX_NAME)
            return false;
    return sk_X509_NAME_num(names) > 0 && sk_X509_NAME_num(names) <= MAX_NAMES;
}

STACK_OF(X509_NAME) *running_trust_names(void)
{
    STACK_OF(X509_NAME) *names = NULL;

    pthread_mutex_lock(&lock);
    if (current && fits(current->names))
        names = sk_X509_NAME_deep_copy(current->names, X509_NAME_dup, X509_NAME_free);
    pthread_mutex_unlock(&lock);
    return names;
}

uint64_t running_trust_id(void)
{
    uint64_t id;

    pthread_mutex_lock(&lock);
    id = current ? current->id : 0;
    pthread_mutex_unlock(&lock);
    return id;
}

STACK_OF(X509) *trust_by_subject(const X509_NAME *subject)
{
    X509_STORE *store = running_trust();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *found = NULL;

    if (ctx && X509_STORE_CTX_init(ctx, store, NULL, NULL))
        found = X509_STORE_CTX_get1_certs(ctx, subject);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return found;
}

struct bundle *trust_system(void)
{
    struct bundle *b;

    pthread_mutex_lock(&lock);
    b = current ? bundle_ref(current->system) : bundle_new(BUNDLE);
    pthread_mutex_unlock(&lock);
    return b;
}

static bool update(bool *changed, struct err *err)
{
    struct bundle *fresh = NULL;
    struct config *cfg;
    struct trust *t = NULL;
    bool ok;

    if (!worker_call(read_job, &fresh, err)) { /* YIELDS */
        bundle_free(&fresh);
        return false;
    }
    *changed = memcmp(fresh->digest, current->system->digest, sizeof(fresh->digest)) != 0;
    cfg = running_config();
    ok = trust_new(cfg, fresh, &t, err); /* YIELDS */
    if (ok) {
        put_in_force(t);
        x509_forget_public();
    }
    config_free(&cfg);
    return ok;
}

bool trust_update(bool *changed, struct err *err)
{
    bool ok;

    *changed = false;
    if (!commit_lock(clock_in(SECONDS(30)), err)) /* YIELDS */
        return false;
    ok = update(changed, err); /* YIELDS */
    commit_unlock();
    return ok;
}
