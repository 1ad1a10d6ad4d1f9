/* alert.h - mail to the administrators about what needs a person (alertconfig): ordinary mail through the gateway's own
 * queue, from the null path so that it never bounces; said again about the same thing after growing intervals, and kept
 * in state.db for displayalerts.
 *
 * An alert never causes another one: what is raised while a message of ours with an alert is being delivered is only
 * logged (MSG_ALERT, ALERT_MARK), and recipients in the domain an alert is about hear of it once (alert_mail.h). */
#ifndef POSTERN_ALERT_H
#define POSTERN_ALERT_H

#include "daemon/writer.h"
#include "store/config.h" /* enum alert_class: ALERT_SYSTEM, ALERT_UPDATER, ALERT_DELIVERY; enum alert_severity */

/* Any thread; never waits. key: what it is about ("tls example.com", with a domain as the last word where it is about
 * one); alerts with the same key are duplicates of each other. The text may hold what came from the network: it is
 * escaped here. A text of several lines has "\n". */
void alert_raise(enum alert_class class, enum alert_severity severity, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A delivery to domain needed TLS and host did not give it; reason may come from the network. Does nothing unless
 * destconfig > setup asks for it. Any thread; never waits. */
void alert_tls_required(const struct config *cfg, const char *domain, const char *host, const char *reason);

#define ALERT_MARK 1u /* fiber_set_mark: this fiber delivers an alert */

/* Once, when mail can be queued: sends what has gathered, and what comes, until the fibers are stopped. serial: what the
 * mails give as "Serial Number". */
bool alert_start(const char *serial, struct err *err);

/* The newest first, at most max of them. */
typedef void (*alert_visitor)(void *arg, usec_t at, const char *class, const char *severity, const char *text);
bool alert_list(unsigned max, alert_visitor fn, void *arg, struct err *err); /* YIELDS; fn runs on another thread meanwhile */

#endif
