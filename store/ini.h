/* ini.h - INI files as other gateways write them, read step by step. Pure; any thread. The text is borrowed and is never changed;
 * sizes are bounded by its length and by the limits below.
 *
 *   [section]            anything between the brackets, blanks at both ends dropped
 *   key = value          or "key: value"; the key is compared without regard to case by the caller
 *   # comment  ; comment whole lines; behind a value " #" and " ;" begin one
 * Lines end with LF or CRLF; a byte order mark at the beginning is skipped. */
#ifndef POSTERN_INI_H
#define POSTERN_INI_H

#include "store/base/buf.h"
#include "store/base/err.h"

#define INI_MAX_LINE 4096u

enum ini_step { INI_SECTION, INI_KEY, INI_END, INI_ERROR };
struct ini {
    unsigned line;        /* number of the line of the last step, from 1 */
    struct slice section; /* the one we are in; empty before the first */
    struct slice key, value;
    const char *p, *end; /* what is still to be read */
};

void ini_begin(struct ini *in, const char *text, size_t n);
enum ini_step ini_next(struct ini *in, struct err *err); /* INI_ERROR: err says which line is wrong and how */

#endif
