/* json.h - what we need over jansson. Ownership follows jansson's own words: "new" or "borrowed". */
#ifndef POSTERN_JSON_H
#define POSTERN_JSON_H

#include <jansson.h>

#include "store/base/err.h"

#define JSON_MAX_LINE (8u << 20) /* longest line of the control protocol, bytes */

json_t *json_parse(const char *text, size_t n, struct err *err); /* new; depth and duplicate keys limited */
char *json_text(const json_t *j);         /* compact, one line, key order kept; caller frees */

/* Reads of an object's member with a default; never fail. Strings are borrowed. */
const char *json_str(const json_t *obj, const char *key, const char *deflt);
json_int_t json_int(const json_t *obj, const char *key, json_int_t deflt);
bool json_bool_of(const json_t *obj, const char *key, bool deflt);

/* json_set(obj, "key", json_string(..)) steals the value; NULL value stores null. Invalid UTF-8 in json_put_str
 * is replaced, never lost silently. */
void json_put(json_t *obj, const char *key, json_t *value);
void json_put_str(json_t *obj, const char *key, const char *s);
void json_put_int(json_t *obj, const char *key, json_int_t n);

void json_free(json_t **j); /* for AUTO(json): decref and NULL */

#endif
