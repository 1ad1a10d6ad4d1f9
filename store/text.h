/* text.h - the configuration as text: the statements that make it, which the console accepts as typed lines too.
 *
 *   # comment
 *   destconfig set partner.example use_tls=require
 *   listenerconfig set InboundMail port=25 max_message_size=20M
 *   listenerconfig edit InboundMail rcptaccess set example.com action=accept
 *   listenerconfig edit InboundMail hostaccess set policy ACCEPTED behavior=accept
 *   listenerconfig edit InboundMail hostaccess set sendergroup RELAYLIST hosts="10.0.0.0/8, ::1" policy=RELAYED
 *   listenerconfig setup max_connections=5000
 *   sethostname gw.example.com admin_address=postmaster@example.com
 *
 * One rule makes them all from .command of the section, W0 [W1 [W2]]:
 *   list of objects   W0 VERB NAME key=value...
 *   objects of owner  W0 edit OWNER W1 VERB [W2] NAME key=value...
 *   single object     W0 [W1] [value of the .lead field] key=value...
 * VERB: set (create or change, unnamed keys stay), new (must not exist), edit (must exist), replace (create or change, unnamed
 * keys take their default), delete (must exist), absent. Lists also take key+=value and key-=value. Words are split and quoted as
 * words.h says; PEM texts are quoted strings with \n. Fields with their default are left out, so the text is exact when
 * it replaces the whole configuration, and adds or changes what it names when it is merged.
 *
 * The order is that of sections.def, names sorted; nothing changes from run to run. A secret is written as its
 * reference ("sealed:...": good on the machine that holds it), as "encrypted:..." under a passphrase, or plain. */
#ifndef POSTERN_TEXT_H
#define POSTERN_TEXT_H

#include "store/config.h"

struct text_secrets { /* secrets are the daemon's; without callbacks references stay as they are */
    bool (*out)(void *arg, const char *ref, struct buf *text, struct err *err);                 /* what stands for a reference */
    bool (*in)(void *arg, const char *kind, const char *text, char **ref, struct err *err);     /* and back; ref is the caller's */
    void *arg;
    const char *note; /* a comment line of the head, without "# "; or NULL */
};

/* One statement with the fields that differ from their defaults, without a line end; a long list goes on in more lines. */
void text_statement(const struct row *r, const struct text_secrets *secrets, struct buf *out);

bool text_export(const struct config *cfg, const struct text_secrets *secrets, struct buf *out, struct err *err);
/* The same objects as JSON: {"postern":version,"schema":n,"objects":[{"section","name","body"}]}. New. */
json_t *text_export_json(const struct config *cfg, const struct text_secrets *secrets, struct err *err);

/* Reads either form into edits over base. replace: what the text does not mention goes, single objects return to their
 * defaults. On error nothing is to be used and err names the line. Callbacks may yield. */
bool text_import(const char *text, size_t n, const struct config *base, bool replace, const struct text_secrets *secrets,
                 struct config_edits *out, struct err *err);

/* Passphrases: scrypt, then AES-256-GCM with a nonce that follows from key and text, so that the same secrets under the same
 * passphrase give the same text. */
#define TEXT_SALT 16
#define TEXT_KEY 32
bool text_key(const char *passphrase, const unsigned char salt[TEXT_SALT], unsigned char key[TEXT_KEY], struct err *err); /* slow */
bool text_encrypt(const unsigned char key[TEXT_KEY], const char *plain, size_t n, struct buf *out, struct err *err);
bool text_decrypt(const unsigned char key[TEXT_KEY], const char *text, struct buf *plain, struct err *err); /* E_DENIED: other passphrase */

#endif
