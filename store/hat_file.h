/* hat_file.h - the host access table of a listener as the text that hostaccess prints, exports and imports: the format of other
 * systems' files, so that theirs can be read.
 *
 *     # a comment
 *     $THROTTLED                               a mail flow policy; without braces it inherits everything
 *         ACCEPT {
 *             max_rcpts_per_hour = 20          -1: unlimited
 *             tls = "on"                       "off", "on" (preferred), "required"
 *         }
 *     SUSPECTLIST:                             a sender group
 *         192.0.2.0/24                         its members
 *             $THROTTLED (a comment)           its policy
 *     spam.example                             a bare host, with a rule of its own
 *         REJECT
 *     ALL                                      the last one
 *         $ACCEPTED
 *
 * Our tables know groups only. Bare hosts that follow each other with the same rule become a group HOSTS_1, HOSTS_2, ...; a rule
 * without a policy becomes one that says just that (ACCEPTED, RELAYED, BLOCKED, TCPREFUSED, CONTINUE, unless a policy of the file
 * says the same), a rule with parameters a policy named as its group. An ALL that is not what the listener does
 * anyway becomes the group "ALL", which stays last.
 *
 * What other systems know and we do not (scanning, reputation, DNS lists) is left out and counted; what nobody knows is an
 * error. The file replaces all groups and policies of the listener; policies that it names but does not define stay as they
 * are. Pure; any thread. */
#ifndef POSTERN_HAT_FILE_H
#define POSTERN_HAT_FILE_H

#include "store/config.h"

#define HAT_FILE_MAX ((size_t)64 << 20) /* bytes of a file */
#define HAT_LAST 1000000000u /* position of the group "ALL" */

struct hat_facts { /* what an import found */
    size_t policies, groups, hosts;
    struct strlist remarks; /* what was left out or changed, a sentence each; the caller frees them */
};

/* Edits over base that make the table of the listener the file's. On an error nothing is to be used; err names line, object,
 * parameter and what to do. */
bool hat_file_import(const char *text, size_t n, const struct config *base, const char *listener,
                     struct config_edits *out, struct hat_facts *facts, struct err *err);

void hat_file_export(const struct config *cfg, const char *listener, struct buf *out);
/* Its parts, each some lines: of PRINT. */
void hat_file_policy(const struct mail_policy *p, struct buf *out);
void hat_file_group(const struct sender_group *g, struct buf *out);
void hat_file_all(const struct listener *l, struct buf *out);
/* Puts the group "ALL" behind the others, whatever its position says. */
void hat_all_last(const struct row **groups, size_t n);
bool hat_is_all(const struct sender_group *g); /* it stands for the line ALL */
const char *hat_rule(int behavior); /* "TCPREFUSE" */
const char *hat_rule_policy(int behavior); /* "TCPREFUSED": the policy that says that and nothing else */
int hat_behavior(const char *word); /* of "REJECT", "TCP Refuse", in any case; -1: none */

#endif
