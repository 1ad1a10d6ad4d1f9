/* bench_crl.c - a revocation list with a million entries: reading and checking it, its memory,
 * looking certificates up in it, and what loops that serve handshakes notice of a new list.
 *
 *     bench_crl [ENTRIES] */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/crl.h"
#include "daemon/crl_source.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "daemon/trust.h"
#include "daemon/worker.h"
#include "store/base/home.h"
#include "store/base/log.h"

#define SERIAL 16u
#define LOOKUPS 2000000u
#define SWAPS 5u

static size_t entries = 1000000;
static unsigned char *serials;
static EVP_PKEY *key;
static X509 *authority, *leaf;

/* --- making it ------------------------------------------------------------------------------- */

static void put(struct buf *b, unsigned tag, const void *p, size_t n) /* n < 128 */
{
    buf_char(b, (char)tag);
    buf_char(b, (char)n);
    buf_add(b, p, n);
}

/* DER wants lengths as short as they can be: the long form only where they are long. */
static void put_long(struct buf *b, unsigned tag, const struct buf *in)
{
    unsigned char head[6] = {(unsigned char)tag};
    size_t n = in->n, bytes = n < 128 ? 0 : n < 256 ? 1 : n < 65536 ? 2 : n < 1u << 24 ? 3 : 4;

    head[1] = (unsigned char)(bytes ? 0x80 | bytes : n);
    for (size_t i = 0; i < bytes; i++)
        head[2 + i] = (unsigned char)(n >> 8 * (bytes - 1 - i));
    buf_add(b, head, 2 + bytes);
    buf_add(b, in->p, in->n);
}

static void put_entry(struct buf *out, const unsigned char *serial)
{
    static const unsigned char reason[] = {0x30, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55,
                                           0x1d, 0x15, 0x04, 0x03, 0x0a, 0x01, 0x01};
    struct buf one = BUF_INIT(200);

    put(&one, 0x02, serial, SERIAL);
    put(&one, 0x17, "261101120000Z", 13);
    buf_add(&one, reason, sizeof(reason));
    put_long(out, 0x30, &one);
    buf_free(&one);
}

static void put_date(struct buf *out, time_t t)
{
    char text[20];
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &tm);
    put(out, 0x17, text + 2, 13);
}

static struct buf make_list(void)
{
    static const unsigned char algorithm[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                              0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
    struct buf all = BUF_INIT(1u << 30), inner = BUF_INIT(1u << 30), tbs = BUF_INIT(1u << 30),
               whole = BUF_INIT(1u << 30), out = BUF_INIT(1u << 30), bits = BUF_INIT(1000);
    unsigned char *name = NULL, signature[200];
    int n = i2d_X509_NAME(X509_get_subject_name(authority), &name);
    size_t length = sizeof(signature);
    EVP_MD_CTX *md = EVP_MD_CTX_new();

    for (size_t i = 0; i < entries; i++)
        put_entry(&all, serials + i * SERIAL);
    put(&inner, 0x02, "\1", 1);
    buf_add(&inner, algorithm, sizeof(algorithm));
    buf_add(&inner, name, (size_t)n);
    put_date(&inner, time(NULL) - 3600);
    put_date(&inner, time(NULL) + 86400);
    put_long(&inner, 0x30, &all);
    put_long(&tbs, 0x30, &inner);
    EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key);
    EVP_DigestSign(md, signature, &length, (unsigned char *)tbs.p, tbs.n);
    EVP_MD_CTX_free(md);
    buf_add(&whole, tbs.p, tbs.n);
    buf_add(&whole, algorithm, sizeof(algorithm));
    buf_char(&bits, 0);
    buf_add(&bits, signature, length);
    put_long(&whole, 0x03, &bits);
    put_long(&out, 0x30, &whole);
    buf_free(&all);
    buf_free(&inner);
    buf_free(&tbs);
    buf_free(&whole);
    buf_free(&bits);
    OPENSSL_free(name);
    return out;
}

static X509 *make_certificate(const char *cn, X509 *issuer)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_get_subject_name(x);

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 77);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : name);
    X509_set_pubkey(x, key);
    X509_sign(x, key, EVP_sha256());
    return x;
}

/* --- measuring ------------------------------------------------------------------------------- */

static double clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static double cpu(void) /* of this thread: what others do on the machine does not count */
{
    return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

static double resident(const char *what) /* MiB */
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[200];
    double kb = 0;

    while (f && fgets(line, sizeof(line), f))
        if (!strncmp(line, what, strlen(what)))
            kb = strtod(line + strlen(what) + 1, NULL);
    if (f)
        fclose(f);
    return kb / 1024;
}

static void row(const char *what, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void row(const char *what, const char *fmt, ...)
{
    va_list ap;

    printf("%-52s ", what);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
}

static struct crl_list *read_list(struct slice der, double *parse, double *verify)
{
    STACK_OF(X509) *authorities = sk_X509_new_null();
    struct crl_signed sig;
    struct crl_list *l;
    struct err err = {0};
    double t = cpu();

    sk_X509_push(authorities, authority);
    l = crl_parse(der, &sig, &err);
    *parse = cpu() - t;
    t = cpu();
    if (!l || !crl_verify(l, &sig, authorities, &err)) {
        fprintf(stderr, "%s\n", err.text);
        exit(1);
    }
    *verify = cpu() - t;
    sk_X509_free(authorities);
    return l;
}

static void look_up(const struct crl_list *l)
{
    unsigned char absent[SERIAL];
    struct crl_entry e;
    size_t found = 0;
    double t = cpu();

    for (size_t i = 0; i < LOOKUPS; i++)
        found += crl_find_bytes(l, serials + i * 7919 % entries * SERIAL, SERIAL, &e);
    row("look-up of a revoked certificate", "%.0f ns", (cpu() - t) / LOOKUPS * 1e9);
    if (found != LOOKUPS)
        exit(1);
    memcpy(absent, serials, SERIAL);
    t = cpu();
    for (size_t i = 0; i < LOOKUPS; i++) {
        memcpy(absent + 4, &i, sizeof(i));
        found += crl_find_bytes(l, absent, SERIAL, &e);
    }
    row("look-up of another one", "%.0f ns", (cpu() - t) / LOOKUPS * 1e9);
}

static void with_the_library(struct slice der)
{
    double before = resident("VmRSS:"), t = cpu();
    const unsigned char *p = (const unsigned char *)der.p;
    X509_CRL *crl = d2i_X509_CRL(NULL, &p, (long)der.n);
    X509_REVOKED *r;

    t = cpu() - t;
    X509_CRL_get0_by_serial(crl, &r, X509_get0_serialNumber(leaf));
    row("for comparison: the same as an X509_CRL of OpenSSL", "%.2f s CPU, %.0f MiB", t,
        resident("VmRSS:") - before);
    X509_CRL_free(crl);
}

/* --- a loop that serves, while lists are swapped ---------------------------------------------- */

static atomic_bool running, busy;
static double worst, worst_cpu, sum;
static size_t turns;
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;

static void serve(void *arg)
{
    STACK_OF(X509) *chain = arg;
    double last = seconds(), last_cpu = cpu(), now, now_cpu;
    char why[200];

    while (running) {
        if (!crl_chain_ok(CRL_INBOUND, chain, why, sizeof(why)))
            exit(1);
        fiber_yield();
        now = seconds();
        now_cpu = cpu();
        pthread_mutex_lock(&turn_lock);
        worst = now - last > worst ? now - last : worst;
        worst_cpu = now_cpu - last_cpu > worst_cpu ? now_cpu - last_cpu : worst_cpu;
        sum += now - last;
        turns++;
        pthread_mutex_unlock(&turn_lock);
        last = seconds();
        last_cpu = cpu();
    }
    busy = false;
}

static void reset(void)
{
    pthread_mutex_lock(&turn_lock);
    worst = worst_cpu = sum = 0;
    turns = 0;
    pthread_mutex_unlock(&turn_lock);
}

static void say(const char *what)
{
    pthread_mutex_lock(&turn_lock);
    row(what, "longest turn %.2f ms (CPU %.3f ms), mean %.2f us", worst * 1e3, worst_cpu * 1e3,
        sum / (double)turns * 1e6);
    pthread_mutex_unlock(&turn_lock);
}

static void configure(void)
{
    struct config_edits e = {0};
    struct row *s = row_new(&section_crl_source, "bench"), *c = row_new(&section_crl_setup, "-");
    struct config *cfg;

    row_set(s, "url", "http://127.0.0.1:1/none.crl", NULL);
    row_set(c, "inbound", "yes", NULL);
    row_freeze(s);
    row_freeze(c);
    config_edits_put(&e, &section_crl_source, "bench", s);
    config_edits_put(&e, &section_crl_setup, "-", c);
    cfg = config_edit(NULL, e.items, e.n, 1);
    reload_crl.publish(NULL, cfg);
    config_free(&cfg);
    config_edits_free(&e);
}

static void swap_while_serving(struct slice der)
{
    STACK_OF(X509) *chain = sk_X509_new_null();
    struct source *s;
    double parse, verify, longest = 0;
    size_t n;

    sk_X509_push(chain, leaf);
    sk_X509_push(chain, authority);
    configure();
    crl_lock();
    s = source_ref(crl_sources(&n)[0]);
    crl_unlock();
    workers_start(1);
    loops_start(1);
    running = busy = true;
    fiber_spawn(loops_get(0), "serve", serve, chain);
    sleep(1);
    reset();
    sleep(2);
    say("a loop that checks chains, nothing else happening");
    reset();
    for (unsigned i = 0; i < SWAPS; i++) {
        struct crl_list *l = read_list(der, &parse, &verify);
        double t = cpu();

        if (!crl_install(s, l, "bench", clock_wall(), NULL))
            exit(1);
        t = cpu() - t;
        longest = t > longest ? t : longest;
        crl_list_free(&l);
    }
    say("... while lists are read and swapped beside it");
    row("putting a list in force and freeing the last one", "%.2f ms, on a worker", longest * 1e3);
    running = false;
    while (busy)
        usleep(1000);
    loop_stop(loops_get(0));
    loops_join();
    source_unref(s);
    crl_stop();
    workers_stop();
    loops_free();
    sk_X509_free(chain);
}

int main(int argc, char **argv)
{
    char home[] = "/tmp/postern-bench.XXXXXX";
    double parse, verify, before;
    struct crl_list *l;
    struct buf der;
    struct err err;

    if (argc > 1)
        entries = strtoul(argv[1], NULL, 10);
    if (!mkdtemp(home) || !home_set(home, &err))
        return 1;
    key = EVP_EC_gen("P-256");
    authority = make_certificate("Bench CA", NULL);
    leaf = make_certificate("leaf", authority);
    serials = malloc(entries * SERIAL);
    for (size_t i = 0; i < entries * SERIAL; i += 1 << 20)
        RAND_bytes(serials + i,
                   (int)(entries * SERIAL - i < 1 << 20 ? entries * SERIAL - i : 1 << 20));
    for (size_t i = 0; i < entries; i++)
        serials[i * SERIAL] = (serials[i * SERIAL] & 0x3f) | 0x40; /* 16 bytes, positive */
    der = make_list();
    row("entries; bytes of the list", "%zu; %.1f MiB", entries, (double)der.n / (1 << 20));
    before = resident("VmRSS:");
    l = read_list((struct slice){der.p, der.n}, &parse, &verify);
    row("reading it", "%.3f s CPU", parse);
    row("checking its signature", "%.3f s CPU", verify);
    row("memory of it, as it says; as the system says", "%.1f MiB; %.1f MiB",
        (double)l->memory / (1 << 20), resident("VmRSS:") - before);
    look_up(l);
    crl_list_free(&l);
    row("memory it leaves behind", "%.1f MiB", resident("VmRSS:") - before);
    swap_while_serving((struct slice){der.p, der.n});
    with_the_library((struct slice){der.p, der.n});
    buf_free(&der);
    rmdir(home);
    return 0;
}
