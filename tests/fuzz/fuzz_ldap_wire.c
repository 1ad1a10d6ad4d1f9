/* fuzz_ldap_wire.c - an LDAP server that says anything at all; its octets lie in the socket before
 * the client begins. Whatever they are: the dialog ends, what is taken from them is bounded, and
 * nothing that is for people can disturb a terminal. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/conn.h"
#include "daemon/ldap_client.h"
#include "store/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text)
{
    assert(strlen(text) < 600);
    for (const char *c = text; *c; c++)
        assert((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static const struct ldap_node *filter(void)
{
    static struct arena arena;
    static const struct ldap_node *made;
    static const struct ldap_values values = {.of = {[MACRO_USER] = "alice"}};
    enum ldap_macro lacking;
    struct ldap_template *t;

    if (!made) {
        t = ldap_template_parse("(uid={u})", NULL);
        made = ldap_template_fill(t, &values, &arena, &lacking);
        ldap_template_free(&t);
    }
    return made;
}

static bool search(struct ldap_client *c, struct err *err)
{
    struct ldap_search s = {
        .base = "", .filter = filter(), .attribute = "uid", .size_limit = 2, .time_limit = 1};
    struct ldap_found found;
    bool ok = ldap_ask(c, &s, clock_in(SECONDS(5)), &found, err);

    assert(found.entries <= 3 && found.values.n <= 100);
    check_text(found.result.text);
    ldap_found_free(&found);
    return ok;
}

static void dialog(int fd)
{
    struct ldap_access access = {.auth = LDAP_BIND_PASSWORD,
                                 .bind_dn = (char *)(uintptr_t) "cn=x",
                                 .bind_password = (char *)(uintptr_t) "secret"};
    struct ldap_client *c = xcalloc(1, sizeof(*c));
    struct ldap_result r = {0};
    struct err err = {0};
    bool ok;

    c->conn = conn_new(fd);
    ok = ldap_bind_service(c, &access, clock_in(SECONDS(5)), &err) || err.code == E_DENIED;
    ok = ok && search(c, &err) && search(c, &err);
    ok = ok && ldap_bind_user(c, "cn=y", "pw", clock_in(SECONDS(5)), &r, &err);
    check_text(r.text);
    check_text(err.text);
    assert(ok || err.code);
    assert(ok || err.code != E_TIMEOUT);
    ldap_is_usable(c);
    ldap_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];

    if (size > 100000)
        return 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    if (send(fds[1], data, size, 0) != (ssize_t)size)
        abort();
    shutdown(fds[1], SHUT_WR);
    dialog(fds[0]);
    close(fds[1]);
    return 0;
}
