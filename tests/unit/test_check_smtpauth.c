/* The rules about SMTP Auth profiles: store/check_smtpauth.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/check.h"
#include "store/factory.h"
#include "store/text.h"
#include "store/x509.h"
#include "tests/unit/check_fixture.h"

#define LDAP                                                                                       \
    "ldapconfig set D hosts=ldap.example; "                                                        \
    "ldapconfig query set D.smtpauth server=D kind=smtpauth filter=\"(uid={u})\"; "                \
    "ldapconfig query set D.certauth server=D kind=certauth filter=\"(cn={cn})\"; "

static void auth_profiles(void **state)
{
    static const struct {
        const char *statements, *field, *text; /* field NULL: all is well */
    } cases[] = {
        {"smtpauthconfig set P kind=ldap query=D.smtpauth",                                       NULL,           NULL                                                },
        {"smtpauthconfig set P kind=ldap",                                                        "query",        "Choose a query of the kind \"smtpauth\""           },
        {"smtpauthconfig set P kind=ldap query=nope",                                             "query",        "nope"                                              },
        {"smtpauthconfig set P kind=ldap query=D.certauth",                                       "query",        "is of the kind \"certauth\""                       },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth check_allowed=yes",                     "refused_text",
         "Enter the text"                                                                                                                                             },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth check_allowed=yes refused=monitor",     NULL,
         NULL                                                                                                                                                         },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth mechanisms=scram-sha-256",              "mechanisms",
         "SCRAM cannot be done with a query that authenticates by bind"                                                                                               },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth mechanisms=\"\"",                       "mechanisms",
         "Without a mechanism"                                                                                                                                        },
        {"ldapconfig query set D.smtpauth server=D kind=smtpauth filter=\"(uid={u})\" "
         "method=attribute; smtpauthconfig set P kind=ldap query=D.smtpauth "
         "mechanisms=scram-sha-256",                                                     NULL,           NULL                                                },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth username=joe",                          "username",
         "Only a profile of"                                                                                                                                          },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth password=sealed:1:2",                   "password",
         "Only a profile of"                                                                                                                                          },
        {"smtpauthconfig set P kind=certificate",                                                 "cert_query",   "Choose a query"                                    },
        {"smtpauthconfig set P kind=certificate cert_query=D.smtpauth",                           "cert_query",
         "is of the kind \"smtpauth\""                                                                                                                                },
        {"smtpauthconfig set P kind=certificate cert_query=D.certauth",                           NULL,           NULL                                                },
        {"smtpauthconfig set P kind=certificate cert_query=D.certauth allow_auth=yes",            "fallback",
         "Choose the profile that"                                                                                                                                    },
        {"smtpauthconfig set P kind=certificate cert_query=D.certauth allow_auth=yes fallback=P",
         "fallback",                                                                                              "is of the kind \"certificate\""                    },
        {"smtpauthconfig set O kind=outgoing username=u password=sealed:1:2; smtpauthconfig set P "
         "kind=certificate cert_query=D.certauth allow_auth=yes fallback=O",             "fallback",     "is of the kind \"outgoing\""                       },
        {"smtpauthconfig set L kind=ldap query=D.smtpauth; smtpauthconfig set P kind=certificate "
         "cert_query=D.certauth allow_auth=yes fallback=L",                              NULL,           NULL                                                },
        {"smtpauthconfig set P kind=outgoing password=sealed:1:2",                                "username",
         "Enter the user name"                                                                                                                                        },
        {"smtpauthconfig set P kind=outgoing username=u",                                         "password",     "Enter the passphrase"                              },
        {"smtpauthconfig set P kind=outgoing username=u password=sealed:1:2",                     NULL,           NULL                                                },
        {"smtpauthconfig set P kind=forward",                                                     NULL,           NULL                                                }, /* see below */
        {"smtpauthconfig set P kind=forward; smtpauthconfig edit P server set mx.example:587",    NULL,
         NULL                                                                                                                                                         },
        {"smtpauthconfig set P kind=forward mechanisms=scram-sha-256; smtpauthconfig edit P server "
         "set "
         "mx.example",                                                                   "mechanisms",   "SCRAM shows no password"                           },
        {"smtpauthconfig set P kind=ldap query=D.smtpauth; smtpauthconfig edit P server set "
         "mx.example",                                                                   "kind",         "Only a profile of the kind \"forward\" has servers"},
    };
    char *text;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        text = malloc(2000);
        snprintf(text, 2000, LDAP "%s", cases[i].statements);
        expect(text, cases[i].field ? "smtpauthconfig P" : NULL, cases[i].field, cases[i].text);
        free(text);
    }
    expect("smtpauthconfig set O kind=outgoing username=u password=sealed:1:2; listenerconfig set "
           "InboundMail smtp_auth=O",
           "listenerconfig InboundMail", "smtp_auth",
           "is of the kind \"outgoing\", for SMTP routes");
    expect("smtpauthconfig set O kind=outgoing username=u password=sealed:1:2; smtproutes set "
           "a.example "
           "hosts=b.example auth_profile=O",
           NULL, NULL, NULL);
    expect("smtpauthconfig set O kind=outgoing username=u password=sealed:1:2; smtproutes set "
           "a.example "
           "hosts=USEDNS auth_profile=O",
           "smtproutes a.example", "auth_profile", "\"USEDNS\" names none");
    expect(LDAP "smtpauthconfig set P kind=ldap query=D.smtpauth; smtproutes set a.example "
                "hosts=b.example auth_profile=P",
           "smtproutes a.example", "auth_profile", "is of the kind \"ldap\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auth_profiles),
    };

    return cmocka_run_group_tests(tests, make_base, drop_base);
}
