/* dns_rules.c - rules of the values of dnsconfig. See rules.h. */
#include "store/rules.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/base/str.h"

bool check_dns_zone(const struct field *f, const char *text, struct err *err)
{
    (void)f;
    if (!str_eq(text, ".") && !host_check(text, NULL))
        return err_set(err, E_INVALID,
                       "The value must be a domain such as example.com, or \".\" for the root.");
    return true;
}

/* A decimal number of at most max at *p, behind blanks; -1: none. */
static long number(const char **p, long max)
{
    char *end;
    long n;

    *p += strspn(*p, " ");
    if (**p < '0' || **p > '9')
        return -1;
    n = strtol(*p, &end, 10);
    *p = end;
    return n <= max && (*end == ' ' || !*end) ? n : -1;
}

/* How many characters of set the rest has; 0: it has others too. Blanks do not count. */
static size_t rest_of(const char *p, const char *set)
{
    size_t n = 0;

    for (; *p; p++)
        if (*p != ' ' && !strchr(set, *p))
            return 0;
        else
            n += *p != ' ';
    return n;
}

bool check_dns_anchor(const struct field *f, const char *text, struct err *err)
{
    static const char hex[] = "0123456789abcdefABCDEF",
                      base64[] =
                          "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    const char *p = text;
    size_t n;

    (void)f;
    if (str_istarts(text, "DS ")) {
        long type;

        p += 3;
        if (number(&p, 65535) < 0 || number(&p, 255) < 0 || (type = number(&p, 255)) < 0 ||
            !(n = rest_of(p, hex)))
            return err_set(err, E_INVALID,
                           "A DS record looks like this: DS 20326 8 2 E06D44B80B8F1D39...");
        if (n != (type == 1 ? 40u : type == 4 ? 96u : 64u))
            return err_set(err, E_INVALID, "The digest of the DS record has not its right length.");
        return true;
    }
    if (str_istarts(text, "DNSKEY ")) {
        p += 7;
        if (number(&p, 65535) < 0 || number(&p, 3) != 3 || number(&p, 255) < 0 ||
            (n = rest_of(p, base64)) < 40 || n % 4)
            return err_set(err, E_INVALID,
                           "A DNSKEY record looks like this: DNSKEY 257 3 8 AwEAAaz/tAm8yTn4...");
        return true;
    }
    return err_set(err, E_INVALID,
                   "A trust anchor is \"DS TAG ALGORITHM TYPE DIGEST\" or \"DNSKEY 257 3 "
                   "ALGORITHM KEY\".");
}
