/* bv.c - see bv.h. */
#include "daemon/bv.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "store/base/str.h"

#define PREFIX "prvs="
#define TAG 10u /* KDDDSSSSSS */
#define DIGEST 6u
#define DAYS 7 /* a tag is good for */
#define LOCAL_MAX 64u /* RFC 5321 section 4.5.3.1.1: more than that not every host takes */
#define DAY 86400000000LL

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bv_keys current = {.newest = -1}; /* under lock */

/* The six digits. front: "KDDD"; address: without a tag. */
static void digest(const struct bv_keys *k, const char *front, const char *address, char out[DIGEST + 1])
{
    char text[SMTP_ADDRESS_MAX + 8];
    unsigned char mac[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    const char *key = k->of[front[0] - '0'].text;

    snprintf(text, sizeof(text), "%.4s%s", front, address);
    str_lower(text); /* some hosts change the case of what they return */
    HMAC(EVP_sha1(), key, (int)strlen(key), (const unsigned char *)text, strlen(text), mac, &n);
    for (unsigned i = 0; i < DIGEST / 2; i++)
        snprintf(out + 2 * i, 3, "%02X", mac[i]);
}

bool bv_enabled(void)
{
    bool yes;

    pthread_mutex_lock(&lock);
    yes = current.newest >= 0;
    pthread_mutex_unlock(&lock);
    return yes;
}

bool bv_tag(const char *sender, usec_t now, char *out, size_t size)
{
    const char *at = strrchr(sender, '@');
    char front[8], mac[DIGEST + 1];
    bool ok = false;

    if (!at || *sender == '"' || str_istarts(sender, PREFIX) ||
        (size_t)(at - sender) + strlen(PREFIX) + TAG + 1 > LOCAL_MAX)
        return false;
    pthread_mutex_lock(&lock);
    if (current.newest >= 0) {
        snprintf(front, sizeof(front), "%d%03u", current.newest % 10,
                 (unsigned)((now / DAY + DAYS) % 1000) % 1000);
        digest(&current, front, sender, mac);
        ok = true;
    }
    pthread_mutex_unlock(&lock);
    if (ok)
        snprintf(out, size, PREFIX "%s%s=%s", front, mac, sender);
    return ok;
}

static bool is_tag(const char *p)
{
    for (unsigned i = 0; i < TAG; i++)
        if (!strchr(i < TAG - DIGEST ? "0123456789" : "0123456789ABCDEFabcdef", p[i]) || !p[i])
            return false;
    return p[TAG] == '=';
}

enum bv_verdict bv_untag(struct smtp_path *to, usec_t now)
{
    const char *tag = to->address + strlen(PREFIX), *address = tag + TAG + 1;
    size_t cut = strlen(PREFIX) + TAG + 1;
    char mac[DIGEST + 1], given[DIGEST + 1];
    int left; /* days */
    bool good;

    if (to->local_len <= cut || !str_istarts(to->address, PREFIX) || !is_tag(tag))
        return BV_UNTAGGED;
    left = ((tag[1] - '0') * 100 + (tag[2] - '0') * 10 + (tag[3] - '0') - (int)(now / DAY % 1000) + 1000) % 1000;
    str_copy(given, sizeof(given), tag + TAG - DIGEST);
    for (char *p = given; *p; p++)
        *p = (char)(*p >= 'a' ? *p - 'a' + 'A' : *p);
    pthread_mutex_lock(&lock);
    good = left <= DAYS && current.of[tag[0] - '0'].there;
    if (good)
        digest(&current, tag, address, mac);
    pthread_mutex_unlock(&lock);
    if (!good || CRYPTO_memcmp(mac, given, DIGEST) != 0)
        return BV_BAD;
    memmove(to->address, address, strlen(address) + 1);
    to->local_len -= (unsigned)cut;
    return BV_GOOD;
}

void bv_use(const struct bv_keys *keys)
{
    pthread_mutex_lock(&lock);
    current = *keys;
    pthread_mutex_unlock(&lock);
}
