/* queue.h - what the commands about queued messages share. */
#ifndef POSTERN_CMDS_QUEUE_H
#define POSTERN_CMDS_QUEUE_H

#include "cmds/common.h"

struct selection { /* of messages in the queue */
    const char *by; /* "host", "sender", "mid", "all" */
    char *value; /* owned; "" where there is none */
    uint64_t mid;
};
/* "Please select how you would like to VERB messages:"; false: failed. selection_free in any case. */
bool ask_selection(struct ui *ui, const char *verb, struct selection *out);
void selection_free(struct selection *s);
json_t *selection_args(const struct selection *s); /* for queue.list and its like; new */

uint64_t ask_mid(struct ui *ui, const char *verb); /* "Enter the MID to VERB."; 0: failed */
bool confirm_queue(struct ui *ui, const char *question); /* false: no; a script is not asked */

/* An operation on many messages. *result: its counts, new, or NULL. false: failed or stopped, said. */
bool run_queue_op(struct ui *ui, struct session *s, const char *op, json_t *args, const char *done,
                  json_t **result);

#endif
