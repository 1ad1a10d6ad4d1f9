/* deliver.h - delivery sessions: the fibers that carry messages to one destination, and what
 * follows from the answers. */
#ifndef POSTERN_DELIVER_H
#define POSTERN_DELIVER_H

void deliver_session(void *dest); /* a fiber; dest: struct dest *, with a session counted for it */
/* Of what queue_dest_state says: the part that is for people. */
const char *deliver_down_text(const char *error);

#endif
