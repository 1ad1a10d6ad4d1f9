/* certconfig.h - what the files of certconfig share: certconfig.c (menus, looking), cert_new.c (made here),
 * cert_intake.c (pasted, edited), cert_files.c (imported and exported). */
#ifndef POSTERN_CMDS_CERTCONFIG_H
#define POSTERN_CMDS_CERTCONFIG_H

#include "cmds/common.h"

/* Operations of certconfig > certificate. */
void cert_new(struct ui *ui, struct session *s, struct row *unused);
void cert_paste(struct ui *ui, struct session *s, struct row *unused);
void cert_edit(struct ui *ui, struct session *s, struct row *unused);
void cert_import(struct ui *ui, struct session *s, struct row *unused);
void cert_export(struct ui *ui, struct session *s, struct row *unused);

/* A profile by number or name, shown with its subject. demo: the demonstration certificate is among them. The caller frees
 * the name; NULL: none. */
char *cert_ask_profile(struct ui *ui, struct session *s, const char *verb, bool demo);

/* The name of a profile that is to be written, "" when it is to come from the certificate; *replace: over an
 * existing one. The caller frees it; NULL: given up. */
char *cert_ask_name(struct ui *ui, struct session *s, bool *replace);
/* A name that came from a certificate: is it free, or may it be overwritten? false: given up. */
bool cert_may_take(struct ui *ui, struct session *s, const char *name, bool *replace);

bool cert_ask_fqdn(struct ui *ui);
void cert_say_warnings(struct ui *ui, const json_t *answer);
/* "Nothing changed", or that the configuration did. */
void cert_say_changed(struct ui *ui, const json_t *answer);
/* What a call that stages a profile answered: subject, warnings, "nothing changed". Steals the answer, NULL too. */
void cert_say_staged(struct ui *ui, json_t *answer);

#endif
