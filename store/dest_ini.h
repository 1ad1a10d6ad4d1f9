/* dest_ini.h - the destination table as the INI file that destconfig imports and exports.
 *
 * [DEFAULT] holds the default entry and the two global keys send_tls_req_alert and certificate; every other section is a domain and
 * may name any subset of the keys, the rest is inherited. Choices may be written as their number or as their word, in any
 * case. The file replaces the whole table. Pure; any thread. */
#ifndef POSTERN_DEST_INI_H
#define POSTERN_DEST_INI_H

#include "store/config.h"

#define DEST_INI_MAX ((size_t)64 << 20) /* bytes of a file */

/* Edits over base that make its table the file's. On an error nothing is to be used; err names the line, the section, the key and
 * what to do. entries: how many domains the file has. */
bool dest_ini_import(const char *text, size_t n, const struct config *base, struct config_edits *out, size_t *entries,
                     struct err *err);
void dest_ini_export(const struct config *cfg, struct buf *out);

#endif
