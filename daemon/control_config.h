/* control_config.h - what control_config.c and control_text.c share. */
#ifndef POSTERN_CONTROL_CONFIG_H
#define POSTERN_CONTROL_CONFIG_H

#include "daemon/control.h"
#include "store/check.h"
#include "store/config.h"

/* The view named by args[key]: a revision number, "running" or "candidate". New reference. YIELDS */
bool control_view(struct control *c, const json_t *args, const char *key, const char *deflt, struct config **out, struct err *err);
/* Stages for this connection; the rules that refuse it go into the envelope. YIELDS */
bool control_stage(struct control *c, struct config_edits *e, uint64_t restores, struct err *err);
void control_put_check(struct control *c, const struct check *check);
bool control_may_change(struct control *c, const struct section *s, struct err *err); /* YIELDS; denied attempts are audited */

#endif
