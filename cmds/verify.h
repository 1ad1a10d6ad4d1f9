/* verify.h - what daneverify, tlsverify and tlsexplain share. */
#ifndef POSTERN_CMDS_VERIFY_H
#define POSTERN_CMDS_VERIFY_H

#include "cmds/common.h"
#include "store/base/net.h"

bool accept_domain(void *unused, const char *answer, struct err *err); /* of ui_question */
/* Prints the lines of a test as they come; the command fails when its result is no success. args is
 * stolen. */
void run_test(struct ui *ui, struct session *s, const char *op, json_t *args);

#endif
