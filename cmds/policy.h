/* policy.h - the parameters of a mail flow policy, and of the listener it inherits from: shown, asked, taken from a line. */
#ifndef POSTERN_CMDS_POLICY_H
#define POSTERN_CMDS_POLICY_H

#include "cmds/common.h"

void say_policy_parameters(
    struct ui *ui, const struct row *listener); /* "Default Policy Parameters" and the block */
/* Of a listener (defaults) or of a policy that takes mail. Words on the line are taken, and then nothing is asked. */
void ask_policy_parameters(struct ui *ui, struct session *s, struct row *row);
void ask_rejection(struct ui *ui, struct session *s, struct row *policy); /* of a policy that takes none */

#endif
