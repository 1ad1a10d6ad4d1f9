/* failpoint.c - see failpoint.h. */
#include "store/failpoint.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *wanted;
static size_t wanted_len;
static atomic_int left;

void failpoint_arm(const char *spec)
{
    const char *colon = spec ? strchr(spec, ':') : NULL;

    wanted = spec;
    wanted_len = !spec ? 0 : colon ? (size_t)(colon - spec) : strlen(spec);
    left = colon ? (int)strtol(colon + 1, NULL, 10) : 1;
}

void failpoint(const char *name)
{
    if (wanted && strlen(name) == wanted_len && !memcmp(name, wanted, wanted_len) && --left == 0)
        raise(SIGKILL);
}
