/* rat_file.h - the recipient access table of a public listener as the text that rcptaccess exports and imports: an entry a
 * line, its address, ACCEPT or REJECT, and in parentheses what else it says; "#" begins a comment.
 *
 *     example.com ACCEPT
 *     joe@example.com REJECT (code = 551, text = "They moved")
 *     abuse@example.com ACCEPT (bypass_receiving_control)
 *     ALL REJECT
 *
 * ALL stands for everybody else and can only be REJECT: to accept all recipients would be an open relay. The file replaces the
 * whole table. Pure; any thread. */
#ifndef POSTERN_RAT_FILE_H
#define POSTERN_RAT_FILE_H

#include "store/config.h"

#define RAT_FILE_MAX ((size_t)64 << 20) /* bytes of a file */

/* Edits over base that make the table of the listener the file's. On an error nothing is to be used; err names line, address,
 * option and what to do. remarks: what was left out, a sentence each; the caller frees them. */
bool rat_file_import(const char *text, size_t n, const struct config *base, const char *listener,
                     struct config_edits *out, size_t *entries, struct strlist *remarks, struct err *err);
void rat_file_export(const struct config *cfg, const char *listener, struct buf *out);
void rat_file_entry(const struct rcpt_access *e, struct buf *out); /* one line */

#endif
