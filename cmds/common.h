/* common.h - what several commands say or do in the same way. */
#ifndef POSTERN_CMDS_COMMON_H
#define POSTERN_CMDS_COMMON_H

#include "shell/command.h"
#include "shell/dialog.h"
#include "shell/out.h"
#include "store/base/clock.h"
#include "store/config.h"

#define COUNT_TEXT 32
char *count_text(uint64_t n, char out[COUNT_TEXT]); /* "62,049,822" */

json_int_t lines_option(struct ui *ui, json_int_t min, json_int_t deflt); /* of "-n LINES"; deflt: not said, or it failed */
bool too_narrow(const struct ui *ui, unsigned columns); /* the terminal has fewer */

/* The warning wherever the demonstration certificate is chosen or stays chosen. */
void say_if_demo(struct ui *ui, struct session *s, const char *certificate);
void say_tls_notice(struct ui *ui); /* "You have chosen to enable TLS. ..." */

/* The questions of a new bounce profile; the row belongs to the session. */
struct row *ask_new_bounce_profile(struct ui *ui, struct session *s);

/* A row of session_new or session_edit takes the values of another one, its name excepted. */
void take_values(struct row *to, const struct row *from);

/* A list of items separated by commas, each refused or accepted by a field's own rules. The answer
 * is added to out. */
void ask_items(struct ui *ui, const struct section *sec, const char *field, const char *key,
               const char *question, const char *deflt, struct strlist *out);

/* A text that may not be empty. */
const char *ask_some(struct ui *ui, const char *key, const char *question);

/* A field that this kind of object needs, though not every one does. */
void ask_needed(struct ui *ui, struct row *r, const char *field);

/* A call that writes a file: one of its name is overwritten when replace (--replace) says so, or the person who is asked.
 * args is stolen; NULL: it was said why. */
json_t *call_writing(struct ui *ui, struct session *s, const char *op, json_t *args, bool replace);

bool has_name(struct session *s, const struct section *sec, const char *owner, const char *name);

/* Fails when something names an object of the section, and says what: "listenerconfig InboundMail (smtp_auth)". Objects of
 * the section except (may be NULL) do not count, and what the operation has changed so far is not seen. True: nothing does. */
bool ask_deletable(struct ui *ui, struct session *s, const struct section *sec, const char *name,
                   const struct section *except);

/* The secret of a field, which may not be empty; of a person twice, if twice. Enter keeps the one there is. */
void ask_new_secret(struct ui *ui, struct session *s, struct row *r, const char *field, bool twice);

/* "4 weeks 46 mins 53 secs" */
void age_text(json_int_t seconds, char *out, size_t size);

/* The text of a date in an answer of the daemon. */
const char *date_text(const json_t *date, char out[40]);

#endif
