/* listener.h - the parts of listenerconfig, which fill four files. */
#ifndef POSTERN_CMDS_LISTENER_H
#define POSTERN_CMDS_LISTENER_H

#include "cmds/common.h"

void listener_new(struct ui *ui, struct session *s, struct row *unused);

void say_policy_parameters(
    struct ui *ui, const struct row *listener); /* "Default Policy Parameters" and the block */
void ask_policy_parameters(struct ui *ui, struct session *s,
                           struct row *row); /* of a listener (defaults) or of a policy */

extern const struct menu hostaccess_menu, rcptaccess_menu; /* of a listener */

#endif
