/* version.c - what runs here. */
#include "cmds/common.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <unistd.h>

static void run(struct ui *ui, struct session *s)
{
    static const struct out_column keys[] = {
        {"Product",     "product",     0, false},
        {"Version",     "version",     0, false},
        {"TLS Library", "tls_library", 0, false},
        {"Hostname",    "host",        0, false},
        {"CPUs",        "cpus",        0, false},
        {"Memory",      "memory_text", 0, false},
    };
    json_t *record;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    long long bytes = pages > 0 && page > 0 ? (long long)pages * page : 0;
    char *memory;

    if (!ui_end_of_words(ui))
        return;
    record = json_object();
    memory = xasprintf("%lld MB", bytes >> 20);
    json_put_str(record, "product", "Postern Secure Mail Gateway");
    json_put_str(record, "version", json_str(session_hello(s), "version", ""));
    json_put_str(record, "tls_library", OpenSSL_version(OPENSSL_VERSION));
    json_put_str(record, "host", session_hostname(s));
    json_put_int(record, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
    json_put_int(record, "memory", bytes);
    json_put_str(record, "memory_text", memory);
    free(memory);
    out_line(ui, "Current Version\n===============");
    out_record(ui, keys, countof(keys), record);
}

const struct command cmd_version = {
    .name = "version",
    .help = "View system version information",
    .usage = "version",
    .roles = ROLE_GUEST,
    .run = run,
};
