/* control_cert.h - what control_cert.c (looking) and control_cert_make.c (making, taking in, handing out) share. */
#ifndef POSTERN_CONTROL_CERT_H
#define POSTERN_CONTROL_CERT_H

#include "daemon/control.h"
#include "store/row.h"

bool cert_new(struct control *c, const json_t *args, json_t *data, struct err *err);
bool cert_paste(struct control *c, const json_t *args, json_t *data, struct err *err);
bool cert_import(struct control *c, const json_t *args, json_t *data, struct err *err);
bool cert_export(struct control *c, const json_t *args, json_t *data, struct err *err);
bool cert_csr(struct control *c, const json_t *args, json_t *data, struct err *err);

/* The profile as the candidate has it; a reference for the caller, or NULL with E_NOT_FOUND. */
struct row *cert_profile(struct control *c, const char *name, struct err *err);
/* Adds what is wrong with the profile of that name to data: "findings" and, as sentences, "warnings". YIELDS */
bool cert_findings(struct control *c, const char *name, json_t *data, struct err *err);

#endif
