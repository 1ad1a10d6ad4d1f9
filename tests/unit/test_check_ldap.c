/* Rules of ldapconfig: what is refused, what is warned of, and what is fine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/rules.h"
#include "tests/unit/cm.h"

static void add(struct config_edits *e, const struct section *s, const char *name,
                const char *settings)
{
    struct row *r = row_new(s, name);
    AUTO(strlist) struct strlist list = {0};
    struct err err = {0};

    strlist_split(&list, settings, ';');
    for (size_t i = 0; i < list.n; i++) {
        char *value = strchr(list.items[i], '=');

        *value++ = '\0';
        if (!row_set(r, list.items[i], value, &err))
            fail_msg("%s: %s", list.items[i], err.text);
    }
    row_freeze(r);
    config_edits_put(e, s, name, r);
}

#define FINE "hosts=ldap.example.com;security=ldaps"
#define ASKS "server=dir;filter=(uid={u})"

/* field NULL: nothing at all is said; warning: of what kind it is. */
static void expect(const char *server, const char *query, const char *field, bool warning,
                   const char *text)
{
    const struct section *const sections[] = {&section_ldap_server, &section_ldap_query};
    const char *const names[] = {"dir", "q"};
    struct config_edits e = {0};
    struct check check = {0};
    struct config *c;
    bool found = false;

    add(&e, &section_ldap_setup, "-", "");
    add(&e, &section_ldap_server, "dir", server);
    add(&e, &section_ldap_query, "q", query);
    c = config_edit(NULL, e.items, e.n, 1);
    config_edits_free(&e);
    for (size_t i = 0; i < 2; i++) {
        const struct row *r = config_row(c, sections[i], names[i]);

        check.row = r;
        sections[i]->check(c, r, &check);
    }
    for (size_t i = 0; i < check.n; i++)
        found = found || (field && check.items[i].warning == warning &&
                          str_eq(check.items[i].field, field) && strstr(check.items[i].text, text));
    if (field ? !found : check.n)
        fail_msg("%s, %s: %zu, the first: %s: %s", server, query, check.n,
                 check.n ? check.items[0].field : "", check.n ? check.items[0].text : "");
    check_free(&check);
    config_free(&c);
}

static void fine(void **state)
{
    (void)state;
    expect(FINE, ASKS, NULL, false, "");
    expect("hosts=localhost, 127.0.0.1:1389, [::1]:1389", ASKS, NULL, false, "");
    expect("hosts=a, b:636;security=ldaps;auth=password;bind_dn=cn=x;bind_password=sealed:1:2",
           ASKS, NULL, false, "");
    expect("hosts=a;security=starttls", ASKS ";allowance=(&(uid={u})(x>={t}))", NULL, false, "");
    expect(FINE, "server=dir;kind=certauth;filter=(&(a={cn})(b={sn}))", NULL, false, "");
    expect(FINE, "server=dir;kind=certauth;fields=fp;filter=(&(a={fp})(until>={t}))", NULL, false,
           "");
}

static void servers(void **state)
{
    (void)state;
    expect("hosts=a;security=none", ASKS, "security", true, "The passwords of users go to a");
    expect("hosts=127.0.0.1, b;security=none;auth=password;bind_dn=x;bind_password=sealed:1:2",
           ASKS, "security", true, "The bind passphrase goes to b in clear");
    expect("hosts=a;security=ldaps;verify=no", ASKS, "verify", true, "is not verified");
    expect("hosts=a;security=ldaps;auth=password;bind_password=sealed:1:2", ASKS, "bind_dn", false,
           "Enter the bind username");
    expect("hosts=a;security=ldaps;auth=password;bind_dn=x", ASKS, "bind_password", false,
           "Enter the bind passphrase");
    expect("hosts=a;security=none;auth=external", ASKS, "security", false, "takes TLS");
    expect("hosts=a;security=ldaps;auth=external", ASKS, "auth", false, "ldapconfig setup");
    expect("hosts=a;security=ldaps;port=389", ASKS, "port", true,
           "port 389 is that of LDAP without");
    expect("hosts=a:3268;security=ldaps", ASKS, "port", true, "LDAPS is usually on 3269");
    expect("hosts=a:636;security=starttls", ASKS, "port", true, "port 636 is that of LDAPS");
    expect("hosts=a, b, A;security=ldaps", ASKS, "hosts", false, "A is there twice");
    expect(FINE ";connect_timeout=20;query_timeout=10", ASKS, "connect_timeout", true,
           "A query ends after 10 seconds");
}

static void queries(void **state)
{
    (void)state;
    expect(FINE, "server=dir;filter=(objectClass=person)", "filter", false,
           "does not name the user");
    expect(FINE, "server=dir;filter=(domain={d})", "filter", false, "does not name the user");
    expect(FINE, "server=dir;filter=(&(uid={u})(cn={cn}))", "filter", false,
           "{cn} is of certificates");
    expect(FINE, ASKS ";allowance=(cacexempt=*)", "allowance", false, "does not name the user");
    expect(FINE, ASKS ";method=attribute;password_attribute=", "password_attribute", false,
           "Enter the attribute");
    expect(FINE ";server_type=ad", ASKS ";method=attribute", "method", true,
           "Active Directory shows passwords to nobody");
    expect(FINE, ASKS ";method=attribute", "method", true, "binds anonymously");
    expect(FINE, "server=dir;kind=certauth;filter=(uid=x)", "filter", false,
           "does not name the certificate");
    expect(FINE, "server=dir;kind=certauth;filter=(uid={u})", "filter", false, "{u} is of users");
    expect(FINE, "server=dir;kind=certauth;filter=(mail={e})", "filter", false,
           "not among the chosen certificate fields");
    expect(FINE, "server=dir;kind=certauth;filter=(cn={cn})", "fields", true, "field sn is chosen");
    expect(FINE, "server=dir;kind=certauth;fields=;filter=(cn={cn})", "fields", false,
           "Choose the fields");
    expect(FINE,
           "server=dir;kind=certauth;fields=cn;filter=(cn={cn});user_attribute=", "user_attribute",
           false, "Enter the user ID attribute");
    expect(FINE, "server=dir;kind=certauth;fields=cn;filter=(cn={cn});allowance=(uid={u})",
           "allowance", true, "has no effect here");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fine),
        cmocka_unit_test(servers),
        cmocka_unit_test(queries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
