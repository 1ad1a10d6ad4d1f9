/* http.c - see http.h. One thread runs libcurl's multi interface; the settings of updateconfig are
 * a snapshot which a fetch takes at its start. Names are resolved by dns.c, on the fiber that asks,
 * so that time limits, validation and the rule about addresses are ours; curl is told the result
 * and never asks itself. Nothing is kept from one fetch to the next: no connection, no TLS session,
 * no address. */
#include "daemon/http.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config_db.h"
#include "daemon/dns.h"
#include "daemon/fiber.h"
#include "daemon/reload.h"
#include "daemon/trust.h"
#include "store/base/log.h"
#include "store/base/str.h"
#include "store/base/version.h"

#define MAX_RUNNING 128u /* fetches at a time; the others wait, and their time runs */
#define MAX_HEADERS (32u << 10) /* octets of all header lines of an answer */
#define MAX_ADDRESSES 8u

struct settings { /* immutable, reference-counted */
    atomic_int refs;
    char *proxy_host; /* "": none */
    char *proxy_url;
    unsigned proxy_port;
    char *proxy_user;
    struct buf proxy_password;
    msec_t connect_time, idle_time, total_time;
    bool private_addresses;
    uint64_t id; /* the same for the same settings */
};

/* Shared by the fiber that waits and the thread that works: a reference each, for either may leave
 * first. */
struct job {
    atomic_int refs;
    struct wait wait;
    struct job *next;
    struct settings *settings;
    char *url, *host, *type;
    bool plain;
    msec_t deadline;
    /* of the thread */
    CURL *easy;
    CURLSH *share; /* a DNS cache that lives and dies with this fetch */
    struct curl_slist *resolve, *headers;
    char curl_text[CURL_ERROR_SIZE];
    size_t header_bytes;
    bool encoded;
    /* results, the fiber's after wait_done */
    struct buf body;
    long status;
    struct err err;
    bool ok;
};

static struct {
    pthread_mutex_t lock;
    struct settings *settings;
    struct job *first, **end;
    bool stop, running;
    CURLM *multi; /* the thread's, but for curl_multi_wakeup */
    struct job *jobs[MAX_RUNNING];
    pthread_t thread;
} http = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- settings --- */

static void settings_free(struct settings **sp)
{
    struct settings *s = *sp;

    *sp = NULL;
    if (!s || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    free(s->proxy_host);
    free(s->proxy_url);
    free(s->proxy_user);
    if (s->proxy_password.p)
        OPENSSL_cleanse(s->proxy_password.p, s->proxy_password.cap);
    buf_free(&s->proxy_password);
    free(s);
}

static struct settings *current_settings(void)
{
    struct settings *s;

    pthread_mutex_lock(&http.lock);
    s = http.settings;
    if (s)
        atomic_fetch_add(&s->refs, 1);
    pthread_mutex_unlock(&http.lock);
    return s;
}

/* The first bytes of the digest that the row has anyway. */
static uint64_t id_of(const struct config *cfg)
{
    uint64_t id;

    memcpy(&id, config_row(cfg, &section_update, "-")->hash, sizeof(id));
    return id;
}

static bool prepare(const struct config *old, const struct config *cfg, void **state,
                    struct err *err)
{
    const struct update *u = CONFIG_SINGLE(cfg, update);
    struct settings *s = xcalloc(1, sizeof(*s));
    struct addr a;

    (void)old;
    s->refs = 1;
    s->id = id_of(cfg);
    s->proxy_host = xstrdup(u->proxy_host);
    s->proxy_port = (unsigned)u->proxy_port;
    s->proxy_url = xasprintf(
        addr_parse(u->proxy_host, &a) && a.family == AF_INET6 ? "http://[%s]:%u" : "http://%s:%u",
        u->proxy_host, s->proxy_port);
    s->proxy_user = xstrdup(u->proxy_user);
    s->proxy_password = (struct buf)BUF_INIT(1024);
    s->connect_time = SECONDS((msec_t)u->connect_timeout);
    s->idle_time = SECONDS((msec_t)u->idle_timeout);
    s->total_time = SECONDS((msec_t)u->total_timeout);
    s->private_addresses = u->allow_private_addresses;
    if (*u->proxy_password && !config_db_secret(u->proxy_password, &s->proxy_password, err)) {
        settings_free(&s);
        return err_wrap(err, "opening the passphrase of the HTTPS proxy (updateconfig)");
    }
    *state = s;
    return true;
}

static void publish(void *state, const struct config *cfg)
{
    struct settings *old;

    (void)cfg;
    pthread_mutex_lock(&http.lock);
    old = http.settings;
    http.settings = state;
    pthread_mutex_unlock(&http.lock);
    settings_free(&old);
}

static void discard(void *state)
{
    struct settings *s = state;

    settings_free(&s);
}

const struct reload_part reload_http = {"HTTPS fetches", prepare, publish, discard};

bool http_uses_proxy(void)
{
    struct settings *s = current_settings();
    bool uses = s && *s->proxy_host;

    settings_free(&s);
    return uses;
}

uint64_t http_settings_id(void)
{
    struct settings *s = current_settings();
    uint64_t id = (s ? s->id : 0) + running_trust_id();

    settings_free(&s);
    return id;
}

/* --- one fetch, on the thread --- */

static void job_unref(struct job **jp)
{
    struct job *j = *jp;

    *jp = NULL;
    if (atomic_fetch_sub(&j->refs, 1) > 1)
        return;
    settings_free(&j->settings);
    curl_slist_free_all(j->resolve);
    curl_slist_free_all(j->headers);
    buf_free(&j->body);
    free(j->url);
    free(j->host);
    free(j->type);
    free(j);
}

/* Everything about a failure that libcurl only knows as "the callback did not want it". */
static size_t refuse(struct job *j, enum err_code code, const char *text)
{
    if (!j->err.code)
        err_set(&j->err, code, "%s", text);
    return 0;
}

static bool is_type(const char *header, const char *type)
{
    size_t n = strlen(type);

    return header && str_istarts(header, type) && (!header[n] || strchr("; \t", header[n]));
}

/* Before the first byte of a body is taken. */
static bool acceptable(struct job *j)
{
    char *type = NULL;

    curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &j->status);
    curl_easy_getinfo(j->easy, CURLINFO_CONTENT_TYPE, &type);
    if (j->status >= 300 && j->status < 400)
        return err_set(&j->err, E_PROTOCOL,
                       "the server answered with a redirection (status %ld), which is not followed",
                       j->status);
    if (j->status != 200)
        return err_set(&j->err, E_PROTOCOL, "the server answered with status %ld", j->status);
    if (j->type && !is_type(type, j->type))
        return err_set(&j->err, E_PROTOCOL, "the media type of the answer is \"%s\", not %s",
                       str_printable(type ? type : ""), j->type);
    if (j->encoded)
        return err_set(&j->err, E_PROTOCOL, "the answer is compressed, which was not asked for");
    return true;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct job *j = arg;
    struct slice line = {p, size * n};

    j->header_bytes += line.n;
    if (j->header_bytes > MAX_HEADERS)
        return refuse(j, E_LIMIT, "the header of the answer is too long");
    if (line.n >= 5 && !memcmp(p, "HTTP/", 5))
        j->encoded = false;
    if (line.n > 17 && !strncasecmp(p, "content-encoding:", 17)) {
        char *value = xstrndup(p + 17, line.n - 17), *word = str_trim(value);

        j->encoded = *word && !str_ieq(word, "identity");
        free(value);
    }
    return line.n;
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct job *j = arg;

    if (!j->body.n && !acceptable(j))
        return 0;
    buf_add(&j->body, p, size * n);
    return j->body.full ? refuse(j, E_LIMIT, "the answer is too long") : size * n;
}

/* The authorities are ours (certconfig), and so is the rule about names: the host stands in the
 * certificate as a DNS-ID (RFC 9525; RFC 8461 section 3.3), the common name does not count. */
static CURLcode on_context(CURL *easy, void *ssl_ctx, void *arg)
{
    struct job *j = arg;
    SSL_CTX *ctx = ssl_ctx;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);

    (void)easy;
    SSL_CTX_set_cert_store(ctx, running_trust()); /* takes the reference */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (!X509_VERIFY_PARAM_set1_host(param, j->host, 0) ||
        !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
        return CURLE_SSL_CERTPROBLEM;
    return CURLE_OK;
}

static void use_proxy(struct job *j)
{
    const struct settings *s = j->settings;

    curl_easy_setopt(j->easy, CURLOPT_PROXY, *s->proxy_host ? s->proxy_url : "");
    curl_easy_setopt(j->easy, CURLOPT_NOPROXY, ""); /* the environment says nothing here */
    curl_easy_setopt(j->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (*s->proxy_host && *s->proxy_user) {
        curl_easy_setopt(j->easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
        curl_easy_setopt(j->easy, CURLOPT_PROXYUSERNAME, s->proxy_user);
        curl_easy_setopt(j->easy, CURLOPT_PROXYPASSWORD, buf_str(&s->proxy_password));
    }
}

static msec_t at_most(msec_t a, msec_t b)
{
    return a < b ? a : b;
}

static bool set_up(struct job *j)
{
    const struct settings *s = j->settings;
    msec_t left = j->deadline - clock_now();
    CURL *e = j->easy = curl_easy_init();

    if (left <= 0)
        return err_set(&j->err, E_TIMEOUT, "connection timeout");
    j->share = curl_share_init();
    if (!e || !j->share)
        return err_set(&j->err, E_LIMIT, "out of memory");
    curl_share_setopt(j->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    if (j->type) {
        char *accept = xasprintf("Accept: %s", j->type);

        j->headers = curl_slist_append(NULL, accept);
        free(accept);
    }
    curl_easy_setopt(e, CURLOPT_SHARE, j->share);
    curl_easy_setopt(e, CURLOPT_RESOLVE, j->resolve);
    curl_easy_setopt(e, CURLOPT_PRIVATE, j);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, j->curl_text);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, j->plain ? "http,https" : "https");
    curl_easy_setopt(e, CURLOPT_URL, j->url);
    curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, j->headers);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "Postern/" POSTERN_VERSION);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
    use_proxy(j);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(e, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    curl_easy_setopt(e, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, on_context);
    curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, j);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)at_most(s->connect_time, left));
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, (long)(s->idle_time / 1000));
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)left);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, j);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, j);
    return curl_multi_add_handle(http.multi, e) == CURLM_OK ||
           err_set(&j->err, E_LIMIT, "out of memory");
}

static void judge(struct job *j, CURLcode rc)
{
    const char *text = *j->curl_text ? j->curl_text : curl_easy_strerror(rc);

    if (j->err.code)
        return;
    switch (rc) {
    case CURLE_OK:
        j->ok = j->body.n ? true : acceptable(j);
        break;
    case CURLE_OPERATION_TIMEDOUT:
        err_set(&j->err, E_TIMEOUT, "connection timeout");
        break;
    case CURLE_OUT_OF_MEMORY: /* said when a single line passes libcurl's own limit, too */
        err_set(&j->err, E_LIMIT, "a header line of the answer is too long");
        break;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        err_set(&j->err, E_NET, "%s", str_printable(text));
        break;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        err_set(&j->err, E_TLS, "%s", str_printable(text));
        break;
    default:
        err_set(&j->err, E_PROTOCOL, "%s", str_printable(text));
        break;
    }
}

static void finish(struct job *j)
{
    if (j->easy)
        curl_easy_cleanup(j->easy);
    if (j->share)
        curl_share_cleanup(j->share);
    wait_done(&j->wait);
    job_unref(&j);
}

static struct job *take_job(void)
{
    struct job *j;

    pthread_mutex_lock(&http.lock);
    j = http.first;
    if (j) {
        http.first = j->next;
        if (!http.first)
            http.end = &http.first;
    }
    pthread_mutex_unlock(&http.lock);
    return j;
}

static void start_jobs(void)
{
    for (unsigned i = 0; i < MAX_RUNNING; i++) {
        struct job *j;

        while (!http.jobs[i] && (j = take_job())) {
            if (set_up(j))
                http.jobs[i] = j;
            else
                finish(j);
        }
    }
}

static void end_job(struct job **jp, CURLcode rc)
{
    struct job *j = *jp;

    *jp = NULL;
    curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &j->status);
    curl_multi_remove_handle(http.multi, j->easy);
    judge(j, rc);
    finish(j);
}

static void end_finished(void)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(http.multi, &left)))
        for (unsigned i = 0; m->msg == CURLMSG_DONE && i < MAX_RUNNING; i++)
            if (http.jobs[i] && http.jobs[i]->easy == m->easy_handle) {
                end_job(&http.jobs[i], m->data.result); /* m is gone from here on */
                break;
            }
}

static bool stopping(void)
{
    bool stop;

    pthread_mutex_lock(&http.lock);
    stop = http.stop;
    pthread_mutex_unlock(&http.lock);
    return stop;
}

static void *http_thread(void *arg)
{
    int active;

    (void)arg;
    while (!stopping()) {
        start_jobs();
        curl_multi_perform(http.multi, &active);
        end_finished();
        start_jobs();
        curl_multi_poll(http.multi, NULL, 0, 60000, NULL); /* curl_multi_wakeup ends it */
    }
    for (unsigned i = 0; i < MAX_RUNNING; i++)
        if (http.jobs[i])
            end_job(&http.jobs[i], CURLE_ABORTED_BY_CALLBACK);
    return NULL;
}

/* --- what callers ask --- */

/* "https://HOST[:PORT]/..." */
static bool parse_url(const char *url, bool plain, char *host, size_t size, unsigned *port,
                      struct err *err)
{
    bool clear = plain && str_istarts(url, "http://");
    const char *p = url + (clear ? 7 : 8), *end;
    size_t n;

    *port = clear ? 80 : 443;
    if (!clear && !str_istarts(url, "https://"))
        return err_set(err, E_INVALID, "%s: only https is fetched", str_printable(url));
    n = strcspn(p, ":/?#");
    end = p + n;
    if (n >= size)
        return err_set(err, E_INVALID, "%s: the host name is too long", str_printable(url));
    memcpy(host, p, n);
    host[n] = '\0';
    if (*end == ':') {
        *port = (unsigned)strtoul(end + 1, NULL, 10);
        end += 1 + strspn(end + 1, "0123456789");
    }
    if ((*end && !strchr("/?#", *end)) || *port < 1 || *port > 65535)
        return err_set(err, E_INVALID, "%s is not a URL", str_printable(url));
    return host_check(host, err);
}

/* One address of those that may be connected to; the text for CURLOPT_RESOLVE grows by it. */
static bool use_address(struct buf *out, const struct addr *a, bool any, unsigned n)
{
    char text[ADDR_TEXT];

    if (!any && !addr_is_public(a))
        return false;
    buf_printf(out, a->family == AF_INET6 ? "%s[%s]" : "%s%s", n ? "," : "", addr_text(a, text));
    return true;
}

/* YIELDS. The line for CURLOPT_RESOLVE: "HOST:PORT:ADDRESS,ADDRESS". A proxy is where the operator
 * says, wherever that is; and it resolves what it is asked for. */
static bool resolve(const char *host, unsigned port, bool any, msec_t deadline, struct buf *out,
                    struct err *err)
{
    struct dns_addrs addrs = {0};
    struct addr literal;
    unsigned n = 0;

    buf_printf(out, "%s:%u:", host, port);
    if (addr_parse(host, &literal)) {
        n = use_address(out, &literal, any, 0);
    } else {
        if (!dns_addresses(host, true, true, deadline, &addrs, err))
            return false;
        for (unsigned i = 0; i < addrs.n && n < MAX_ADDRESSES; i++)
            n += use_address(out, &addrs.addrs[i], any, n);
        if (!addrs.n)
            err_set(err, E_NET, "%s has no address", str_printable(host));
    }
    if (!n && (addrs.n || addr_parse(host, &literal)))
        err_set(err, E_DENIED, "%s has no public address", str_printable(host));
    dns_addrs_free(&addrs);
    return n > 0;
}

static bool hand_over(struct job *j)
{
    pthread_mutex_lock(&http.lock);
    if (http.running && !http.stop) {
        *http.end = j;
        http.end = &j->next;
        atomic_fetch_add(&j->refs, 1);
        pthread_mutex_unlock(&http.lock);
        curl_multi_wakeup(http.multi);
        return true;
    }
    pthread_mutex_unlock(&http.lock);
    return err_set(&j->err, E_CLOSED, "the gateway is stopping");
}

bool http_get(const struct http_request *r, struct http_answer *out, struct err *err)
{
    AUTO(buf) struct buf addresses = BUF_INIT(2000);
    struct settings *s = current_settings();
    struct job *j;
    char host[256];
    unsigned port;
    msec_t deadline;
    bool proxied, ok = false;

    *out = (struct http_answer){.body = BUF_INIT(0)};
    if (!s)
        return err_set(err, E_CLOSED, "nothing is configured yet");
    proxied = *s->proxy_host;
    deadline = at_most(r->deadline, clock_in(r->total ? r->total : s->total_time));
    if (!parse_url(r->url, r->plain, host, sizeof(host), &port, err) ||
        !resolve(proxied ? s->proxy_host : host, proxied ? s->proxy_port : port,
                 proxied || s->private_addresses, deadline, &addresses, err)) {
        settings_free(&s);
        return false;
    }
    j = xcalloc(1, sizeof(*j));
    j->refs = 1;
    wait_init(&j->wait);
    j->settings = s;
    j->url = xstrdup(r->url);
    j->host = xstrdup(host);
    j->plain = r->plain;
    j->type = r->type ? xstrdup(r->type) : NULL;
    j->deadline = deadline;
    j->body = (struct buf)BUF_INIT(r->max_bytes);
    j->resolve = curl_slist_append(NULL, buf_str(&addresses));
    /* The thread keeps the deadline; it may be a little late, and then says more than "no answer".
     */
    if (!hand_over(j)) {
        *err = j->err;
    } else if (!wait_until(&j->wait, deadline == NEVER ? NEVER : deadline + SECONDS(2), "HTTPS")) {
        if (fiber_interrupted())
            err_set(err, E_CLOSED, "the gateway is stopping");
        else
            err_set(err, E_TIMEOUT, "connection timeout");
    } else {
        ok = j->ok;
        out->status = j->status;
        if (!ok && err)
            *err = j->err;
        if (ok) {
            out->body = j->body;
            j->body = (struct buf)BUF_INIT(0);
        }
    }
    job_unref(&j);
    return ok;
}

bool http_start(struct err *err)
{
    sigset_t all, old;
    int rc;

    if (curl_global_init(CURL_GLOBAL_DEFAULT))
        return err_set(err, E_IO, "libcurl cannot be started");
    http.multi = curl_multi_init();
    if (!http.multi)
        return err_set(err, E_IO, "libcurl cannot be started");
    http.end = &http.first;
    http.stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&http.thread, NULL, http_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        curl_multi_cleanup(http.multi);
        return err_errno(err, rc, "starting the thread of HTTPS fetches");
    }
    pthread_setname_np(http.thread, "https");
    http.running = true;
    return true;
}

void http_stop(void)
{
    struct settings *s;
    struct job *j;

    pthread_mutex_lock(&http.lock);
    http.stop = true;
    s = http.settings;
    http.settings = NULL;
    pthread_mutex_unlock(&http.lock);
    curl_multi_wakeup(http.multi);
    pthread_join(http.thread, NULL);
    http.running = false;
    while ((j = take_job())) /* their fibers have ended */
        job_unref(&j);
    settings_free(&s);
    curl_multi_cleanup(http.multi);
    curl_global_cleanup();
}
