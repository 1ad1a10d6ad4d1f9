/* factory.h - the configuration of an empty home. */
#ifndef POSTERN_FACTORY_H
#define POSTERN_FACTORY_H

#include "store/config.h"

struct factory {
    const char *home;
    const char *hostname;    /* of the system; made fully qualified */
    const char *owner;       /* login name of the uid that owns the home; NULL or "root": only root */
    bool privileged;         /* ports 25 and 587 of all addresses; else 2525 and 2587 of 127.0.0.1 */
    const char *demo_cert;   /* PEM */
    const char *demo_key;    /* sealed reference */
};

/* The rows a new listener starts with, as the factory's listener of that kind has them: the listener itself first, then its
 * policies and sender groups. New rows, at most FACTORY_LISTENER_ROWS; how many. */
#define FACTORY_LISTENER_ROWS 16
size_t factory_listener(enum listener_kinds kind, const char *name, struct row **rows);

/* Revision 1. The environment's POSTERN_TEST_PORTS="P1,P2" replaces the listeners' ports. */
struct config *factory_config(const struct factory *f);

#endif
