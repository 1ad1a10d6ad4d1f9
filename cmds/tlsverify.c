/* tlsverify.c - does a host show a certificate that "Verify" accepts for a domain? */
#include "cmds/verify.h"

#include <stdlib.h>
#include <string.h>

static bool accept_host(void *unused, const char *answer, struct err *err)
{
    char ascii[256];
    struct addr a;
    const char *colon = strrchr(answer, ':');
    char *name, *end;
    unsigned long port;
    bool ok;

    (void)unused;
    if (addr_parse_port(answer, 25, &a))
        return true;
    if (colon) {
        port = strtoul(colon + 1, &end, 10);
        if (*end || end == colon + 1 || port < 1 || port > 65535)
            return err_set(err, E_INVALID, "The port \"%s\" must be an integer from 1 to 65535.",
                           str_printable(colon + 1));
    }
    name = xstrndup(answer, colon ? (size_t)(colon - answer) : strlen(answer));
    ok = domain_to_ascii(name, ascii, sizeof(ascii), err) && host_check(ascii, err);
    free(name);
    return ok;
}

static void run(struct ui *ui, struct session *s)
{
    const struct ui_question ask_domain = {
        .text = "Enter the TLS domain to verify against:",
        .key = "domain",
        .help = "The domain of the recipients, which the certificate has to name.",
        .accept = accept_domain};
    AUTO(str) char *domain = xstrdup(ui_ask(ui, &ask_domain));
    const struct ui_question ask_host = {
        .text = "Enter the destination host to connect to.  Append the port (example.com:26) if "
                "you are not "
                "connecting on port 25:",
        .key = "host",
        .deflt = domain,
        .help = "A host name or an address. The domain itself stands for its mail hosts.",
        .accept = accept_host};
    const char *host = ui_failed(ui) ? "" : ui_ask(ui, &ask_host);
    json_t *args;

    if (ui_failed(ui))
        return;
    args = json_object();
    json_put_str(args, "domain", domain);
    json_put_str(args, "host", host);
    if (ui_end_of_words(ui))
        run_test(ui, s, "tls.verify", args);
    else
        json_decref(args);
}

const struct command cmd_tlsverify = {
    .name = "tlsverify",
    .help = "Test an outbound TLS connection and its certificate",
    .usage = "tlsverify DOMAIN [HOST[:PORT]]",
    .detail = "Connects to a host, or to the mail hosts of the domain, and verifies the "
              "certificate as destination "
              "controls do with \"Required - Verify\": it must lead to a trusted authority and "
              "name the domain or, in "
              "its common name, the host. Nothing is sent and nothing is stored. Ctrl-C stops. In "
              "batch the exit code "
              "is 0 when the certificate is verified, else 1.",
    .roles = ROLE_OPERATOR,
    .run = run,
};
