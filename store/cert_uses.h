/* cert_uses.h - where a configuration uses which certificate profile: every field that refers to one, whatever section
 * it is in. Any thread. */
#ifndef POSTERN_CERT_USES_H
#define POSTERN_CERT_USES_H

#include "store/config.h"
#include "store/x509.h"

struct cert_use {
    const char *profile, *service; /* "mail-2026", "InboundMail (listener)" */
    bool server, client;           /* shown to those who connect; to those we connect to */
    bool further;                  /* only to those who ask for one of its names */
};
void cert_uses(const struct config *cfg, void (*fn)(void *arg, const struct cert_use *use), void *arg);

/* What x509_check is to look at for this profile; hosts gets the names its users are known by (strlist_free). */
void cert_subject(const struct config *cfg, const struct row *profile, usec_t now, struct strlist *hosts,
                  struct x509_subject *out);

#endif
