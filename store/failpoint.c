/* failpoint.c - see failpoint.h. */
#include "store/failpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *wanted;
static size_t wanted_len;
static atomic_int left;

static void read_environment(void)
{
    const char *colon;

    wanted = getenv("POSTERN_FAILPOINT");
    if (!wanted)
        return;
    colon = strchr(wanted, ':');
    wanted_len = colon ? (size_t)(colon - wanted) : strlen(wanted);
    left = colon ? (int)strtol(colon + 1, NULL, 10) : 1;
}

void failpoint(const char *name)
{
    pthread_once(&once, read_environment);
    if (wanted && strlen(name) == wanted_len && !memcmp(name, wanted, wanted_len) && --left == 0)
        raise(SIGKILL);
}
