/* alert_mail.c - see alert_mail.h. */
#include "daemon/alert_mail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/message.h"
#include "store/base/str.h"
#include "store/base/version.h"

#define SUBJECT_TEXT 60 /* of the text that is in the subject */
#define WIDTH 76

const char *alert_severity_word(enum alert_severity s)
{
    return s == ALERT_INFO ? "Info" : choices_alert_severity[s].text;
}

static bool wants(const struct strlist *list, const char *word)
{
    return strlist_has(list, "all") || strlist_has(list, word);
}

static bool lives_in_its_domain(const struct alert *a, const char *address)
{
    const char *blank = strrchr(a->key, ' ');

    return blank && str_ieq(address_domain(address), blank + 1);
}

void alert_recipients(const struct config *cfg, const struct alert *a, struct strlist *out)
{
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    size_t n = config_count(cfg, &section_alert_recipient);

    for (size_t i = 0; i < n; i++) {
        const struct alert_recipient *r = config_at(cfg, &section_alert_recipient, i)->data;

        if (wants(&r->classes, choices_alert_class[a->class].word) &&
            wants(&r->severities, choices_alert_severity[a->severity].word) &&
            !(a->again && lives_in_its_domain(a, r->address)))
            strlist_add(out, r->address);
    }
    if (!n && sys && *sys->admin_address &&
        !(a->again && lives_in_its_domain(a, sys->admin_address)))
        strlist_add(out, sys->admin_address);
}

/* The first line, cut, ASCII only: a header needs no decoding then. */
static void first_words(const char *text, char *out, size_t size)
{
    size_t n = strcspn(text, "\n"), shown = n > SUBJECT_TEXT ? SUBJECT_TEXT : n;
    bool cut = n > shown || text[n];

    while (cut && shown && text[shown - 1] == ' ')
        shown--;
    snprintf(out, size, "%.*s%s", (int)shown, text, cut ? "..." : "");
    for (char *p = out; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

void alert_subject(const struct config *cfg, const struct alert *a, char *out, size_t size)
{
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    const struct alert_setup *setup = CONFIG_SINGLE(cfg, alert_setup);
    const char *severity = alert_severity_word(a->severity),
               *class = choices_alert_class[a->class].text,
               *host = sys ? sys->hostname : "localhost";
    char words[SUBJECT_TEXT + 8];

    first_words(a->text, words, sizeof(words));
    if (setup && setup->subject == ALERT_SUBJECT_BRACKETS)
        snprintf(out, size, "[%s]-[%s]: (<%s>) %s", severity, host, class, words);
    else
        snprintf(out, size, "%s <%s> %s: %s", severity, class, host, words);
}

/* At blanks, so that no line is long; a word without any is cut where SMTP would refuse it. */
static void add_wrapped(struct buf *out, const char *line, size_t n)
{
    while (n > WIDTH) {
        size_t cut = WIDTH;

        while (cut > WIDTH / 2 && line[cut] != ' ')
            cut--;
        if (line[cut] != ' ')
            for (cut = WIDTH; cut < n && cut < 900 && line[cut] != ' ';)
                cut++;
        if (cut == n)
            break;
        buf_add(out, line, cut);
        buf_str_add(out, "\r\n");
        while (cut < n && line[cut] == ' ')
            cut++;
        line += cut;
        n -= cut;
    }
    buf_add(out, line, n);
    buf_str_add(out, "\r\n");
}

static void add_text(struct buf *out, const char *text)
{
    for (const char *line = text, *end; line; line = end ? end + 1 : NULL) {
        end = strchr(line, '\n');
        add_wrapped(out, line, end ? (size_t)(end - line) : strlen(line));
    }
}

static bool is_ascii(const char *s)
{
    while (*s && !(*s & 0x80))
        s++;
    return !*s;
}

void alert_mail(const struct config *cfg, const struct alert *a, const struct strlist *to,
                uint64_t mid, const char *serial, struct buf *out)
{
    const struct system *sys = CONFIG_SINGLE(cfg, system);
    const struct alert_setup *setup = CONFIG_SINGLE(cfg, alert_setup);
    const char *host = sys ? sys->hostname : "localhost";
    char subject[512], date[40], first[40], latest[40];
    bool ascii = is_ascii(a->text);

    alert_subject(cfg, a, subject, sizeof(subject));
    clock_rfc5322(a->at, date);
    if (setup && *setup->from)
        buf_printf(out, "From: %s\r\n", setup->from);
    else
        buf_printf(out, "From: \"Postern Alert\" <alert@%s>\r\n", host);
    for (size_t i = 0; i < to->n; i++)
        buf_printf(out, "%s<%s>%s\r\n", i ? " " : "To: ", to->items[i], i + 1 < to->n ? "," : "");
    buf_printf(out,
               "Date: %s\r\n"
               "Message-ID: <alert-%" PRIu64 "@%s>\r\n"
               "Subject: %s\r\n"
               "Auto-Submitted: auto-generated\r\n"
               "MIME-Version: 1.0\r\n"
               "Content-Type: text/plain; charset=%s\r\n"
               "%s\r\n"
               "The %s message is:\r\n\r\n",
               date, mid, host, subject, ascii ? "us-ascii" : "utf-8",
               ascii ? "" : "Content-Transfer-Encoding: 8bit\r\n",
               alert_severity_word(a->severity));
    add_text(out, a->text);
    if (a->held)
        buf_printf(out, "\r\nLast message occurred %u times between %s and %s.\r\n", a->held,
                   clock_rfc5322(a->first, first), clock_rfc5322(a->latest, latest));
    buf_printf(out,
               "\r\n"
               "Product: Postern Secure Mail Gateway\r\n"
               "Version: %s\r\n"
               "Serial Number: %s\r\n"
               "Timestamp: %s\r\n"
               "\r\n"
               "\"displayalerts\" in the console shows the last alerts, \"alertconfig\" who gets "
               "them.\r\n",
               POSTERN_VERSION, serial, strchr(date, ' ') + 1);
}
