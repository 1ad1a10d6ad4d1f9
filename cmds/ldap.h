/* ldap.h - what ldapconfig and ldaptest share. */
#ifndef POSTERN_CMDS_LDAP_H
#define POSTERN_CMDS_LDAP_H

#include "cmds/common.h"

/* Operations of the menu of one server: its queries of that kind. */
void ldap_smtpauth(struct ui *ui, struct session *s, struct row *server);
void ldap_certauth(struct ui *ui, struct session *s, struct row *server);
extern const struct menu ldap_query_menu; /* the queries of all servers */

/* The names of the queries of a server (NULL: of all) and of a kind (-1: of all), in order. */
void ldap_queries(struct session *s, const char *server, int kind, struct strlist *out);

/* Asks which of them, by name or number; without a question when there is just one and the line
 * says none. NULL: none, or given up. The caller frees it. */
char *ldap_ask_query(struct ui *ui, struct session *s, const struct strlist *names,
                     const char *question);

/* Asks for what the query is to be tried with and tries it, on the configuration with what the
 * operation has changed. True: the answer is yes. */
bool ldap_try_query(struct ui *ui, struct session *s, const char *query);

/* Operation of menus: one of the queries of the server, or of all, is tried. */
void ldap_test(struct ui *ui, struct session *s, struct row *server);

#endif
