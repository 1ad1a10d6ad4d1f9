/* bench_attempt.c - what the record of a delivery attempt costs: CPU of note and writing to the
 * disk, for messages that travel on open connections to 50 destinations, one in 20 of which opens
 * one. Prints microseconds for each record; bench_policy.py compares them with what a relayed
 * message costs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/attempt.h"
#include "daemon/state.h"
#include "store/base/net.h"

#define DESTINATIONS 50
#define EACH 20 /* messages of a connection */

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void connect_again(struct trail *t, const char *host)
{
    static const struct tls_evidence evidence = {
        .level = DEST_TLS_PREFERRED, .dane = DANE_OPPORTUNISTIC, .dane_state = DANE_USABLE};
    const struct tls_verdict verdict = tls_verdict(&evidence);
    struct addr addr;
    struct trail_host h = {.host = host,
                           .addr = &addr,
                           .entry = "DEFAULT",
                           .evidence = &evidence,
                           .verdict = &verdict,
                           .end = TRAIL_USED,
                           .encrypted = true,
                           .passed = TLS_CHECK_DANE,
                           .protocol = "TLSv1.3",
                           .cipher = "TLS_AES_256_GCM_SHA384",
                           .matched = "3 1 1 0c72ac70b745ac19"};

    addr_parse("192.0.2.1", &addr);
    trail_begin(t);
    trail_add(t, &h);
}

int main(int argc, char **argv)
{
    unsigned messages = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000000;
    static struct trail trails[DESTINATIONS];
    static char names[DESTINATIONS][40];
    struct err err = {0};
    double before;

    if (argc < 2 || !state_start(argv[1], &err) || !attempt_start(&err)) {
        fprintf(stderr, "usage: bench_attempt DIRECTORY [MESSAGES]\n%s\n", err.text);
        return 2;
    }
    for (unsigned i = 0; i < DESTINATIONS; i++)
        snprintf(names[i], sizeof(names[i]), "d%u.bench.example", i);
    before = cpu_seconds();
    for (unsigned i = 0; i < messages; i++) {
        unsigned d = i % DESTINATIONS;
        struct attempt a = {
            .mid = i + 1, .dcid = i / EACH + 1, .domain = names[d], .delivered = 1, .code = 250};

        if (i / DESTINATIONS % EACH == 0)
            connect_again(&trails[d], names[d]);
        attempt_note(&trails[d], &a);
    }
    attempt_stop();
    state_stop();
    printf("%.3f\n", (cpu_seconds() - before) / messages * 1e6);
    for (unsigned i = 0; i < DESTINATIONS; i++)
        trail_free(&trails[i]);
    return 0;
}
