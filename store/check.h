/* check.h - rules that span fields, objects or sections, run at the prompt by the console and at the commit by the
 * daemon: one code, run twice. */
#ifndef POSTERN_CHECK_H
#define POSTERN_CHECK_H

#include "store/config.h"

struct check_item {
    bool warning;
    char *object; /* "listenerconfig InboundMail" */
    char *field;  /* or NULL */
    char *text;   /* sentence that says what is wrong and what to do */
};
struct check {
    struct check_item *items;
    size_t n, cap, errors;
    const struct row *row; /* the object under examination */
    bool errors_only; /* warnings take their time and nobody will see them */
    const struct config *old; /* what there was before; NULL: everything is new */
};
void check_error(struct check *c, const char *field, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_warning(struct check *c, const char *field, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_free(struct check *c);

#define EXCEPTION_DAYS 366 /* a tls_exception ends so many days from today, or earlier */
/* Is the target of a tls_exception one for its kind? The row may be half filled. */
void check_tls_exception_target(const struct row *row, struct check *out);

/* DANE and MTA-STS are ways to demand TLS: a level, own or of the default entry (base), that never says STARTTLS contradicts
 * an entry that asks for them. (One that only inherits them and says "off" itself just does not have them.) NULL: no contradiction;
 * else the field that has to change: "dane", "mta_sts". */
const char *destination_tls_conflict(const struct destination *d, const struct destination *base);

/* What a listener, or a mail flow policy p of it (NULL: the listener itself), says of TLS, client certificates and SMTP
 * AUTH has to fit together. */
void check_client_identity(const struct listener *l, const struct mail_policy *p, struct check *out);
/* Under this policy (NULL: the listener itself) nobody sends before he has authenticated. */
bool check_all_authenticate(const struct listener *l, const struct mail_policy *p);

/* The whole of cfg. With old given, only what can differ from it: changed objects and whatever refers to them
 * (old itself had passed), which is the same verdict at the cost of the change. */
void check_row_fields(const struct row *r, struct check *out); /* the rules of each field alone */
void check_config(const struct config *cfg, const struct config *old, struct check *out);

#endif
