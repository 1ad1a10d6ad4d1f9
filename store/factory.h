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

/* Revision 1. The environment's POSTERN_TEST_PORTS="P1,P2" replaces the listeners' ports. */
struct config *factory_config(const struct factory *f);

#endif
