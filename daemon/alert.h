/* alert.h - mail to the administrators about what needs a person (alertconfig): ordinary mail through the gateway's own
 * queue, from the null path so that it never bounces; said again about the same thing after growing intervals. */
#ifndef POSTERN_ALERT_H
#define POSTERN_ALERT_H

#include "store/config.h"

enum alert_class { ALERT_SYSTEM, ALERT_DELIVERY, ALERT_UPDATER }; /* "System", "Message Delivery", "Updater" */
enum alert_severity { ALERT_CRITICAL, ALERT_WARNING, ALERT_INFO };

/* Any thread; never waits. key: what it is about ("tls example.com"); alerts with the same key are duplicates of each
 * other. The text may hold what came from the network: it is escaped here. A text of several lines has "\n". */
void alert_raise(enum alert_class class, enum alert_severity severity, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* YIELDS. A delivery to domain needed TLS and host did not give it; reason may come from the network. Does nothing unless
 * destconfig > setup asks for it. */
void alert_tls_required(const struct config *cfg, const char *domain, const char *host, const char *reason);

#endif
