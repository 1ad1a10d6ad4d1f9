/* alert.h - mail to the administrator about what needs a person: ordinary mail through the
 * gateway's own queue, from the null path so that it never bounces, repeated about one thing once
 * an hour at most. */
#ifndef POSTERN_ALERT_H
#define POSTERN_ALERT_H

#include "store/config.h"

/* YIELDS. A delivery to domain needed TLS and host did not give it; reason may come from the
 * network. Does nothing unless destconfig > setup asks for it and the system has an administrator
 * address outside that domain. */
void alert_tls_required(const struct config *cfg, const char *domain, const char *host,
                        const char *reason);

#endif
