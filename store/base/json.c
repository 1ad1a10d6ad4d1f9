/* json.c - see json.h. */
#include "store/base/json.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/str.h"

#define MAX_DEPTH 64 /* the parser recurses, and it runs on the small stacks of fibers */

static bool too_deep(const char *text, size_t n)
{
    unsigned depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];

        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MAX_DEPTH)
                return true;
        } else if ((c == '}' || c == ']') && depth) {
            depth--;
        }
    }
    return false;
}

json_t *json_parse(const char *text, size_t n, struct err *err)
{
    json_error_t e;
    json_t *j;

    if (too_deep(text, n)) {
        err_set(err, E_PROTOCOL, "JSON is nested more than %d levels deep", MAX_DEPTH);
        return NULL;
    }
    j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!j)
        err_set(err, E_PROTOCOL, "JSON, line %d, byte %d: %s", e.line, e.position,
                str_printable(e.text));
    return j;
}

char *json_text(const json_t *j)
{
    char *s = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY);

    return s ? s : xstrdup("null");
}

const char *json_str(const json_t *obj, const char *key, const char *deflt)
{
    const char *s = json_string_value(json_object_get(obj, key));

    return s ? s : deflt;
}

json_int_t json_int(const json_t *obj, const char *key, json_int_t deflt)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_integer(v) ? json_integer_value(v) : deflt;
}

bool json_bool_of(const json_t *obj, const char *key, bool deflt)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_boolean(v) ? json_is_true(v) : deflt;
}

void json_put(json_t *obj, const char *key, json_t *value)
{
    json_object_set_new(obj, key, value ? value : json_null());
}

void json_put_str(json_t *obj, const char *key, const char *s)
{
    json_t *v = s ? json_string(s) : json_null();
    struct buf fixed = BUF_INIT((size_t)64 << 20);
    size_t n, start = 0;

    if (s && !v) { /* not UTF-8: every offending byte becomes U+FFFD */
        n = strlen(s);
        for (size_t i = 0, len; i < n; i += len) {
            for (len = 1; len <= 4 && i + len <= n && !str_is_utf8(s + i, len); len++)
                ;
            if (len <= 4 && i + len <= n)
                continue;
            len = 1;
            buf_add(&fixed, s + start, i - start);
            buf_str_add(&fixed, "\xEF\xBF\xBD");
            start = i + 1;
        }
        buf_add(&fixed, s + start, n - start);
        v = json_string(buf_str(&fixed));
        buf_free(&fixed);
    }
    json_put(obj, key, v);
}

void json_put_int(json_t *obj, const char *key, json_int_t n)
{
    json_put(obj, key, json_integer(n));
}

void json_free(json_t **j)
{
    json_decref(*j);
    *j = NULL;
}
