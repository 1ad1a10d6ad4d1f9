/* alert_list.h - what alert.c has gathered, for alert_send.c. Any thread. */
#ifndef POSTERN_ALERT_LIST_H
#define POSTERN_ALERT_LIST_H

#include "daemon/alert_mail.h"
#include "daemon/alert_repeat.h"
#include "daemon/fiber.h"

struct raised {
    struct raised *next;
    struct alert alert; /* key and text are owned */
    msec_t not_before;
    bool stored;
};
void raised_free(struct raised *r);

struct repeat_pace alert_pace(void); /* as configured now */

/* The next one to send, summaries included; the caller owns it. NULL: none now, and w is done when
 * there is one; come again at *until at the latest, which is brought forward if need be.
 * alert_awake() after the wait. */
struct raised *alert_next(struct wait *w, msec_t *until);
void alert_awake(void);
void alert_again(struct raised *r, msec_t not_before); /* gives it back */
struct raised *
alert_end(void); /* all that is left, linked; what is raised from now on is only logged */

void alert_resume(const char *key, msec_t begin,
                  msec_t said); /* it was said then, by the engine before this one */

#endif
