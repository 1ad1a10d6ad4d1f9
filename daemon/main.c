/* main.c - posternd's options. The same program is the parent (supervisor.h) and, executed again by it with --engine,
 * the engine (engine.h): executing gives every engine its own address space layout. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine.h"
#include "daemon/supervisor.h"
#include "store/base/home.h"
#include "store/base/version.h"

static const char usage[] =
    "usage: posternd [--home DIR] [--daemon] [--user NAME]\n"
    "\n"
    "The Postern mail gateway. An empty home gets the factory configuration; change it with postern(1).\n"
    "\n"
    "  --home DIR    keep everything below DIR (default: POSTERN_HOME, else " HOME_INSTALLED ")\n"
    "  --daemon      detach once the gateway serves; messages go to DIR/log/posternd.log\n"
    "  --user NAME   run the engine as this user (root only)\n"
    "  --version     show the version\n"
    "  --help        show this\n";

enum { OPT_HOME = 1, OPT_DAEMON, OPT_USER, OPT_VERSION, OPT_HELP, OPT_ENGINE, OPT_RESTARTS, OPT_OWNER };

static const struct option options[] = {
    {"home",     required_argument, NULL, OPT_HOME    },
    {"daemon",   no_argument,       NULL, OPT_DAEMON  },
    {"user",     required_argument, NULL, OPT_USER    },
    {"version",  no_argument,       NULL, OPT_VERSION },
    {"help",     no_argument,       NULL, OPT_HELP    },
    /* from the parent */
    {"engine",   required_argument, NULL, OPT_ENGINE  },
    {"restarts", required_argument, NULL, OPT_RESTARTS},
    {"owner",    required_argument, NULL, OPT_OWNER   },
    {NULL,       0,                 NULL, 0           },
};

int main(int argc, char **argv)
{
    struct supervisor parent = {.program = argv[0]};
    struct engine engine = {.parent_fd = -1};
    const char *home = NULL;
    struct err err = {0};
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case OPT_HOME:
            home = optarg;
            break;
        case OPT_DAEMON:
            parent.detach = true;
            break;
        case OPT_USER:
            parent.user = optarg;
            break;
        case OPT_VERSION:
            printf("posternd %s\n", POSTERN_VERSION);
            return 0;
        case OPT_HELP:
            fputs(usage, stdout);
            return 0;
        case OPT_ENGINE:
            engine.parent_fd = (int)strtol(optarg, NULL, 10);
            break;
        case OPT_RESTARTS:
            engine.restarts = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case OPT_OWNER:
            engine.owner = (uid_t)strtoul(optarg, NULL, 10);
            break;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "posternd: %s is not an option\n%s", argv[optind], usage);
        return 2;
    }
    if (!home_set(home, &err)) {
        fprintf(stderr, "posternd: %s\n", err.text);
        return 2;
    }
    if (engine.parent_fd < 0)
        return supervisor_run(&parent);
    engine.last_exit = getenv("POSTERN_LAST_EXIT");
    return engine_run(&engine);
}
