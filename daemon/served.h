/* served.h - what our own listeners really show: the engine connects to each of them as any client would and compares the
 * certificate with the configuration. Such connections count and log nothing, and no policy applies to them: a listener
 * recognises them by the address they come from and answers with STARTTLS alone. Any thread. */
#ifndef POSTERN_SERVED_H
#define POSTERN_SERVED_H

#include <stdbool.h>

#include "store/base/err.h"
#include "store/base/net.h"
#include "store/config.h"

/* For the accepting side. */
bool served_is_own(const struct addr *peer);        /* any thread, cheap: did we open that connection? */
void served_answer(int fd, const char *listener);   /* YIELDS; the other end of it; owns fd */

/* YIELDS. Every listener of the running configuration that may speak TLS, each within seconds; raises alerts. */
void served_check_all(void);

/* Which certificate does the listener show to a client that asks for name (NULL: for none) and can verify keys of that type
 * ("RSA", "EC", "ED25519"; NULL: any)? YIELDS. For tests and served_check_all. E_NET: it could not be reached. */
bool served_look(const struct addr *at, const char *name, const char *key_type, char sha256[65], char *subject, size_t size,
                 struct err *err);

#endif
