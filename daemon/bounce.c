/* bounce.c - reports are wanted or not, get their template, and are queued; see bounce.h. */
#include "daemon/bounce.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/reload.h"
#include "daemon/stats.h"
#include "store/base/str.h"

bool bounce_wanted(const struct bounce_profile *profile, const struct rcpt *rcpt, enum bounce_kind kind)
{
    unsigned asked = kind == BOUNCE_FAILED    ? NOTIFY_FAILURE
                     : kind == BOUNCE_DELAYED ? NOTIFY_DELAY
                                              : NOTIFY_SUCCESS;

    if (rcpt->notify ? !(rcpt->notify & asked) : kind == BOUNCE_RELAYED)
        return false;
    return kind == BOUNCE_RELAYED ||
           (kind == BOUNCE_FAILED ? profile->send_bounces : profile->delay_warnings) == ANSWER_YES;
}

/* --- templates --- */

/* The value of a header field, its first line. */
static struct slice header_value(struct slice text, const char *name)
{
    size_t n = strlen(name);

    while (text.n && *text.p != '\r' && *text.p != '\n') {
        const char *end = memchr(text.p, '\n', text.n);
        size_t line = end ? (size_t)(end - text.p) : text.n;

        if (line > n && text.p[n] == ':' && slice_ieq((struct slice){text.p, n}, name))
            return (struct slice){text.p + n + 1, line - n - 1};
        text.p += line + !!end;
        text.n -= line + !!end;
    }
    return (struct slice){NULL, 0};
}

/* The template of the first language of a list such as "de-AT, en;q=0.5" for which there is one. */
static const char *template_of(const struct bounce_profile *profile, struct slice languages)
{
    while (languages.n) {
        const char *comma = memchr(languages.p, ',', languages.n);
        size_t n = comma ? (size_t)(comma - languages.p) : languages.n, length = 0;
        const char *tag = languages.p;

        while (length < n && (*tag == ' ' || *tag == '\t')) {
            tag++;
            n--;
        }
        while (length < n && !strchr(" \t\r;", tag[length]))
            length++;
        for (size_t i = 0; length && i < profile->language_templates.n; i++) {
            const char *item = profile->language_templates.items[i], *colon = strchr(item, ':');
            size_t of = colon ? (size_t)(colon - item) : 0;

            /* "de" serves "de-AT" as well */
            if (of && (of == length || (of < length && tag[of] == '-')) && strncasecmp(item, tag, of) == 0)
                return colon + 1;
        }
        n = comma ? (size_t)(comma - languages.p) + 1 : languages.n;
        languages.p += n;
        languages.n -= n;
    }
    return NULL;
}

const char *bounce_template_for(const struct config *cfg, const struct bounce_profile *profile, struct slice header)
{
    const struct bounce_template *t;
    const char *name = template_of(profile, header_value(header, "Content-Language"));

    if (!name)
        name = template_of(profile, header_value(header, "Accept-Language"));
    if (!name)
        name = profile->template;
    t = name && *name ? CONFIG_GET(cfg, bounce_template, name) : NULL;
    return t ? t->text : NULL;
}

/* --- queueing --- */

static void read_original(struct bounce *b, char *copy, size_t size)
{
    struct body *body = b->of->body;
    struct slice whole = body_cached(body);
    size_t got = 0;

    b->original_whole = body_length(body) <= size;
    if (whole.n) {
        b->original.p = whole.p;
        b->original.n = whole.n < size ? whole.n : size;
        return;
    }
    b->original.p = copy;
    while (b->original.n < size && /* a damaged one is reported without itself */
           body_read(body, b->original.n, copy + b->original.n, size - b->original.n, &got, NULL) &&
           got)
        b->original.n += got;
}

/* YIELDS */
static bool send_one(struct bounce *b, struct err *err)
{
    struct buf text = BUF_INIT(64u << 20);
    struct message *m = message_new();
    bool ok;

    m->mid = b->mid = queue_next_mid();
    m->received = b->now = clock_wall();
    m->bounce_profile = message_text(m, b->of->bounce_profile);
    m->subject = message_text(m, bounce_subject(b));
    m->flags = MSG_BOUNCE | (bounce_is_utf8(b) ? MSG_SMTPUTF8 : 0);
    message_add_rcpt(m, b->to, NULL, NOTIFY_NEVER); /* RFC 3461 section 6.1 */
    bounce_text(b, &text);
    for (size_t i = 0; i < text.n; i++)
        if ((unsigned char)text.p[i] > 127)
            m->flags |= MSG_8BIT;
    ok = text.full ? err_set(err, E_LIMIT, "the report is too large") : queue_submit_own(m, &text, b->of->mid, err);
    if (ok)
        stats_add(STAT_GEN_BOUNCE_RECIPS, 1);
    message_free(&m);
    buf_free(&text);
    return ok;
}

bool bounce_send(enum bounce_kind kind, const struct message *of,
                 const struct bounce_profile *profile, const struct bounce_rcpt *rcpts, unsigned n,
                 usec_t retry_until, unsigned *told, struct err *err)
{
    struct config *cfg = running_config();
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    const struct bounce_setup *setup = CONFIG_SINGLE(cfg, bounce_setup);
    struct bounce b = {.kind = kind,
                       .of = of,
                       .hostname = sys ? sys->hostname : "localhost",
                       .retry_until = retry_until,
                       .profile = profile};
    size_t room = BOUNCE_HEADER;
    unsigned done = 0;
    char *copy;
    bool ok = true;

    b.to = *profile->alternate && kind != BOUNCE_RELAYED ? profile->alternate : of->sender;
    b.max_copy = setup ? setup->max_copy : BOUNCE_HEADER;
    if (b.max_copy > room)
        room = b.max_copy;
    copy = xmalloc(room);
    read_original(&b, copy, room);
    b.template = bounce_template_for(cfg, profile, b.original);
    while (done < n && ok) {
        b.rcpts = rcpts + done;
        b.n = n - done < BOUNCE_RCPTS ? n - done : BOUNCE_RCPTS;
        ok = send_one(&b, err); /* YIELDS */
        done += ok ? b.n : 0;
    }
    free(copy);
    config_free(&cfg);
    if (told)
        *told = done;
    return ok ? true : err_wrap(err, "queueing the report about message %" PRIu64, of->mid);
}
