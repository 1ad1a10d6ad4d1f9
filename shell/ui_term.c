/* ui_term.c - see ui_term.h.
 *
 * libedit edits the lines, but reads no key itself: get_key() waits for keys, signals, the daemon's
 * notices and the idle timer at once, decodes UTF-8 (a bad byte becomes U+FFFD, which the parser
 * then refuses visibly) and knows pasted text. Between lines the terminal neither echoes nor
 * collects lines, so what is typed or pasted ahead is neither shown nor lost.
 *
 * The functions of libedit which start a program or read its own command language are unbound. */
#include "shell/ui_term.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "shell/complete.h"
#include "shell/event.h"
#include "shell/run.h"
#include "shell/session.h"

#define REPLACEMENT 0xfffd
#define HISTORY 500
#define HISTORY_BYTES (256u << 10)
#define MAX_HELP 60 /* lines of "?" */

struct term {
    EditLine *el;
    History *history, *no_history;
    char *history_file;
    struct session *s;
    struct ui *ui;
    const struct ui_question *question; /* NULL: the top prompt */
    char *prompt;
    unsigned char in[4096];
    size_t pos, n;
    bool pasting;
    bool fresh; /* the prompt was just drawn */
    bool marks;
    bool dumb;
    msec_t idle, idle_at;
    enum ui_end end; /* why get_key gave up */
    unsigned width, height, rows; /* rows: since the person last pressed a key */
    unsigned column; /* of what was written */
};

static void measure(struct term *t)
{
    struct winsize ws = {0};

    t->width = 80;
    t->height = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
        t->width = ws.ws_col;
        t->height = ws.ws_row;
    }
}

static void mark(const struct term *t, const char *what)
{
    if (t->marks) {
        printf("\033]133;%s\007", what);
        fflush(stdout);
    }
}

/* --- keys ------------------------------------------------------------------------------------ */

/* The next character of what was read; false: more bytes are needed. */
static bool decode(struct term *t, wchar_t *wc)
{
    unsigned char c;
    size_t len, i;
    unsigned long u;

    if (t->pos >= t->n)
        return false;
    c = t->in[t->pos];
    len = c < 0x80                ? 1
          : c >= 0xc2 && c < 0xe0 ? 2
          : c >= 0xe0 && c < 0xf0 ? 3
          : c >= 0xf0 && c < 0xf5 ? 4
                                  : 0;
    if (!len) {
        t->pos++;
        *wc = REPLACEMENT;
        return true;
    }
    u = len == 1 ? c : c & (0x7fu >> len);
    for (i = 1; i < len; i++) {
        if (t->pos + i >= t->n)
            return false;
        if ((t->in[t->pos + i] & 0xc0) != 0x80)
            break;
        u = u << 6 | (t->in[t->pos + i] & 0x3f);
    }
    t->pos += i;
    if (i < len || (len == 3 && u < 0x800) || (len == 4 && (u < 0x10000 || u > 0x10ffff)) ||
        (u >= 0xd800 && u < 0xe000))
        u = REPLACEMENT;
    *wc = (wchar_t)u;
    return true;
}

static bool fill(struct term *t)
{
    ssize_t n;

    memmove(t->in, t->in + t->pos, t->n - t->pos);
    t->n -= t->pos;
    t->pos = 0;
    n = read(STDIN_FILENO, t->in + t->n, sizeof(t->in) - t->n);
    if (n > 0)
        t->n += (size_t)n;
    return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static void show_notices(struct term *t, bool editing);

/* One character, or why there is none. editing: libedit shows a line, which is redrawn after a
 * notice. */
static enum ui_end next_key(struct term *t, bool editing, wchar_t *wc)
{
    for (;;) {
        if (decode(t, wc)) {
            t->idle_at = clock_in(t->idle);
            return UI_GOES_ON;
        }
        switch (event_wait(STDIN_FILENO, session_fd(t->s), t->idle_at)) {
        case EVENT_TTY:
            if (!fill(t))
                return UI_HANGUP;
            break;
        case EVENT_SOCKET:
            show_notices(t, editing);
            break;
        case EVENT_RESIZE:
            measure(t);
            if (editing) {
                el_resize(t->el);
                el_set(t->el, EL_REFRESH);
            }
            break;
        case EVENT_INTERRUPT:
            t->pos = t->n = 0;
            t->pasting = false;
            t->idle_at = clock_in(t->idle);
            return UI_INTERRUPTED;
        case EVENT_TIME:
            return UI_IDLE;
        case EVENT_HANGUP:
            return UI_HANGUP;
        }
    }
}

static struct term *term_of(EditLine *el)
{
    struct term *t = NULL;

    el_get(el, EL_CLIENTDATA, &t);
    return t;
}

static bool too_long(const struct term *t)
{
    const LineInfoW *line = el_wline(t->el);

    return line->lastchar - line->buffer >= WORDS_MAX_LINE;
}

static int get_key(EditLine *el, wchar_t *wc)
{
    struct term *t = term_of(el);

    if (t->fresh) {
        t->fresh = false;
        mark(t, "B");
    }
    if (t->end) { /* it came while text was pasted */
        errno = EINTR;
        return -1;
    }
    do {
        t->end = next_key(t, true, wc);
        if (t->end) {
            errno = EINTR;
            return -1;
        }
    } while (*wc >= ' ' && *wc != 0x7f &&
             too_long(t)); /* what is too much is dropped; Enter and editing go on */
    return 1;
}

/* --- the line on the screen ------------------------------------------------------------------ */

static unsigned text_columns(const wchar_t *p, const wchar_t *end)
{
    unsigned n = 0;

    for (; p < end; p++) {
        int w = wcwidth(*p);

        n += w >= 0 ? (unsigned)w : 2; /* libedit shows control characters as ^X */
    }
    return n;
}

/* Rows between the first row of the prompt and the cursor, and the end of the line. */
static void line_rows(const struct term *t, unsigned *cursor, unsigned *last)
{
    const LineInfoW *line = el_wline(t->el);
    unsigned before = (unsigned)strlen(t->prompt) + text_columns(line->buffer, line->cursor);

    *cursor = before / t->width;
    *last = (before + text_columns(line->cursor, line->lastchar)) / t->width;
}

/* To a fresh row below the line, which stays visible. */
static void below_line(const struct term *t)
{
    unsigned cursor, last;

    line_rows(t, &cursor, &last);
    for (unsigned i = cursor; i <= last; i++)
        putchar('\n');
}

/* In place of the line. */
static void over_line(const struct term *t)
{
    unsigned cursor, last;

    line_rows(t, &cursor, &last);
    if (t->dumb)
        fputs("\r\n", stdout);
    else if (cursor)
        printf("\r\033[%uA\033[J", cursor);
    else
        fputs("\r\033[J", stdout);
}

static void redraw(const struct term *t)
{
    fflush(stdout);
    el_set(t->el, EL_REFRESH);
}

static void show_notices(struct term *t, bool editing)
{
    char *text = session_notice(t->s);

    if (!text)
        return;
    if (editing)
        over_line(t);
    for (; text; text = session_notice(t->s)) {
        printf("*** %s\n", str_printable(text));
        free(text);
    }
    if (editing)
        redraw(t);
    fflush(stdout);
}

/* --- "?" and Tab ----------------------------------------------------------------------------- */

/* The line up to the cursor as UTF-8; the caller frees it. */
static char *before_cursor(const struct term *t)
{
    const LineInfo *line = el_line(t->el);

    return xstrndup(line->buffer, (size_t)(line->cursor - line->buffer));
}

static void print_offers(const struct term *t, const struct offers *o)
{
    unsigned widest = 0;

    for (size_t i = 0; i < o->n; i++) {
        unsigned n = (unsigned)strlen(o->items[i].word);

        widest = n > widest && n <= 40 ? n : widest;
    }
    for (size_t i = 0; i < o->n && i < MAX_HELP; i++) {
        AUTO(buf) struct buf row = BUF_INIT(4096);

        buf_printf(&row, "  %-*s", (int)widest, str_printable(o->items[i].word));
        if (o->items[i].text)
            buf_printf(&row, "  %s", o->items[i].text);
        while (row.n && row.p[row.n - 1] == ' ')
            row.p[--row.n] = '\0';
        printf("%.*s\n", (int)t->width - 1 > 0 ? (int)t->width - 1 : 1, buf_str(&row));
    }
    if (o->n > MAX_HELP)
        printf("  ... and %zu more\n", o->n - MAX_HELP);
}

static void print_usage(const struct term *t, const char *usage)
{
    AUTO(buf) struct buf text = BUF_INIT(4096), wrapped = BUF_INIT(8192);

    for (const char *end; *usage; usage = *end ? end + 1 : end) {
        end = usage + strcspn(usage, "\n");
        buf_printf(&text, "  %.*s\n", (int)(end - usage), usage);
    }
    ui_wrap(&text, t->width, &wrapped);
    fputs(buf_str(&wrapped), stdout);
}

static void print_comma_list(const struct offers *o)
{
    for (size_t i = 0; i < o->n; i++)
        printf("%s%s", i ? ", " : "", str_printable(o->items[i].word));
    putchar('\n');
}

static void question_offers(const struct term *t, const char *typed, struct completion *out)
{
    struct offers all = {.limit = 400};

    *out = (struct completion){.offers = xcalloc(1, sizeof(struct offers))};
    offers_choices(&all, t->question->choices);
    if (t->question->offer)
        t->question->offer(t->question->arg, typed, &all);
    for (size_t i = 0; i < all.n; i++) {
        if (str_istarts(all.items[i].word, typed))
            offer(out->offers, all.items[i].word, all.items[i].text);
    }
    offers_free(&all);
}

static unsigned char on_help(EditLine *el, int key)
{
    struct term *t = term_of(el);
    AUTO(str) char *typed = before_cursor(t);
    struct completion c;
    const LineInfoW *line = el_wline(el);

    (void)key;
    if (t->question)
        question_offers(t, typed, &c);
    else
        complete_line(t->s, typed, strlen(typed), &c);
    if (t->pasting || c.quoted || line->lastchar - line->buffer >= WORDS_MAX_LINE) {
        complete_free(&c);
        return el_winsertstr(el, L"?") == 0 ? CC_REFRESH : CC_ERROR;
    }
    below_line(t);
    if (t->question && t->question->help) {
        AUTO(buf) struct buf help = BUF_INIT(16384), wrapped = BUF_INIT(16384);

        buf_printf(&help, "%s\n", t->question->help);
        ui_wrap(&help, t->width, &wrapped);
        fputs(buf_str(&wrapped), stdout);
    }
    if (c.offers->n)
        print_offers(t, c.offers);
    else if (t->question && !t->question->help)
        puts(t->question->deflt && *t->question->deflt ? "Enter keeps the value in brackets."
                                                       : "There is no further help here.");
    else if (!t->question && c.usage && strchr(c.usage, ' '))
        print_usage(t, c.usage);
    else if (!t->question)
        puts("  (Enter runs the command)");
    redraw(t);
    complete_free(&c);
    return CC_NORM;
}

/* How many bytes all offers begin with alike, whatever the case. */
static size_t common_prefix(const struct offers *o)
{
    size_t n = strlen(o->items[0].word);

    for (size_t i = 1; i < o->n; i++) {
        size_t k = 0;

        while (k < n && o->items[i].word[k] &&
               (o->items[i].word[k] | 32) == (o->items[0].word[k] | 32))
            k++;
        n = k;
    }
    while (n && (o->items[0].word[n] & 0xc0) == 0x80)
        n--;
    return n;
}

static size_t characters(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

/* A word as it must stand on a line: bare, or in quotes. */
static void put_word(const char *word, bool whole, struct buf *out)
{
    if (!strpbrk(word, " \t\";#\\") || !whole)
        buf_str_add(out, word);
    else
        value_quote(word, out);
}

static unsigned char on_complete(EditLine *el, int key)
{
    struct term *t = term_of(el);
    AUTO(str) char *typed = before_cursor(t);
    AUTO(buf) struct buf word = BUF_INIT(8192);
    AUTO(str) char *common = NULL;
    struct completion c;
    size_t prefix;

    (void)key;
    if (t->pasting)
        return el_winsertstr(el, L" ") == 0 ? CC_REFRESH : CC_ERROR;
    if (t->question)
        question_offers(t, typed, &c);
    else
        complete_line(t->s, typed, strlen(typed), &c);
    if (!c.offers->n) {
        complete_free(&c);
        return CC_ERROR; /* the bell */
    }
    prefix = common_prefix(c.offers);
    common = xstrndup(c.offers->items[0].word, prefix);
    if (c.offers->n == 1) {
        put_word(common, !t->question, &word);
        if (!t->question && !str_ends(common, "=") && !str_ends(common, "/"))
            buf_char(&word, ' ');
    } else if (prefix > strlen(typed + c.start) && !c.quoted) {
        put_word(common, false, &word);
    }
    if (word.n) {
        el_deletestr(el, (int)characters(typed + c.start));
        el_insertstr(el, buf_str(&word));
        complete_free(&c);
        return CC_REFRESH;
    }
    below_line(t);
    if (c.commands)
        print_comma_list(c.offers);
    else
        print_offers(t, c.offers);
    redraw(t);
    complete_free(&c);
    return CC_NORM;
}

/* --- paste ----------------------------------------------------------------------------------- */

static unsigned char on_paste_end(EditLine *el, int key)
{
    (void)key;
    term_of(el)->pasting = false;
    return CC_NORM;
}

/* Takes the rest of the line in one go: redrawing at every character would make a long paste slow.
 * A newline is left to libedit, which ends the line; what follows is still paste. */
static unsigned char on_paste(EditLine *el, int key)
{
    static const wchar_t end[] = L"\033[201~";
    struct term *t = term_of(el);
    const LineInfoW *line = el_wline(el);
    size_t room = (size_t)(WORDS_MAX_LINE - (line->lastchar - line->buffer)), n = 0, matched = 0;
    wchar_t *text = xcalloc(room + 1, sizeof(*text)), wc;

    (void)key;
    t->pasting = true;
    while (t->pasting && !(t->end = next_key(t, true, &wc))) {
        if (wc == end[matched]) {
            matched++;
            t->pasting = matched < wcslen(end);
            continue;
        }
        if (wc == L'\n' || wc == L'\r') {
            t->pos--;
            break;
        }
        matched = wc == end[0] ? 1 : 0; /* an escape that begins no end mark is dropped */
        if (!matched && n < room)
            text[n++] = wc;
    }
    text[n] = L'\0';
    if (n && !t->end)
        el_winsertstr(el, text);
    free(text);
    return CC_REFRESH;
}

/* --- the editor ------------------------------------------------------------------------------ */

static char *prompt_text(EditLine *el)
{
    return term_of(el)->prompt;
}

static void bind_keys(EditLine *el)
{
    static const char *const keys[][2] = {
        {"\\e[200~", "paste-on"           },
        {"\\e[201~", "paste-off"          },
        {"^I",       "ctx-complete"       },
        {"?",        "ctx-help"           },
        {"^W",       "ed-delete-prev-word"},
        {"\\e[3~",   "ed-delete-next-char"},
        {"\\e[H",    "ed-move-to-beg"     },
        {"\\e[F",    "ed-move-to-end"     },
        {"\\e[1~",   "ed-move-to-beg"     },
        {"\\e[4~",   "ed-move-to-end"     },
        {"\\e[1;5C", "em-next-word"       },
        {"\\e[1;5D", "ed-prev-word"       },
 /* what could reach libedit's command language or a program */
        {"\\ex",     "ed-unassigned"      },
        {"\\eX",     "ed-unassigned"      },
    };

    el_set(el, EL_ADDFN, "ctx-help", "explains what may stand here", on_help);
    el_set(el, EL_ADDFN, "ctx-complete", "completes the word", on_complete);
    el_set(el, EL_ADDFN, "paste-on", "begins pasted text", on_paste);
    el_set(el, EL_ADDFN, "paste-off", "ends pasted text", on_paste_end);
    for (size_t i = 0; i < countof(keys); i++)
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
    el_set(el, EL_BIND, "-a", "v", "ed-unassigned", NULL);
    el_set(el, EL_BIND, "-a", ":", "ed-unassigned", NULL);
}

/* --- history --------------------------------------------------------------------------------- */

static void read_history(struct term *t)
{
    FILE *f = t->history_file ? fopen(t->history_file, "re") : NULL;
    struct strlist lines = {0};
    char *line = NULL;
    size_t size = 0;
    ssize_t n;
    HistEvent ev;

    if (!f)
        return;
    while ((n = getline(&line, &size, f)) > 0) {
        while (n && line[n - 1] == '\n')
            line[--n] = '\0';
        if (n && str_is_utf8(line, (size_t)n))
            strlist_addn(&lines, line, (size_t)n);
    }
    free(line);
    fclose(f);
    for (size_t i = lines.n > HISTORY ? lines.n - HISTORY : 0; i < lines.n; i++)
        history(t->history, &ev, H_ENTER, lines.items[i]);
    strlist_free(&lines);
}

/* A full disk makes the history shorter, which is no reason to disturb anybody. */
static void write_quietly(int fd, const char *p, size_t n)
{
    ssize_t done;

    for (; n && (done = write(fd, p, n)) > 0; n -= (size_t)done)
        p += done;
}

/* Under the lock: a file that has grown large keeps its second half. */
static void trim_history(int fd)
{
    struct stat st;
    char *text;
    const char *keep;

    if (fstat(fd, &st) != 0 || st.st_size < HISTORY_BYTES)
        return;
    text = xcalloc((size_t)st.st_size + 1, 1);
    keep = pread(fd, text, (size_t)st.st_size, 0) == st.st_size
               ? strchr(text + st.st_size / 2, '\n')
               : NULL;
    if (keep && ftruncate(fd, 0) == 0)
        write_quietly(fd, keep + 1, strlen(keep + 1));
    free(text);
}

static void append_history(const struct term *t, const char *line)
{
    AUTO(buf) struct buf record = BUF_INIT(WORDS_MAX_LINE + 2);
    int fd;

    if (!t->history_file)
        return;
    fd = open(t->history_file, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    buf_printf(&record, "%s\n", line);
    if (flock(fd, LOCK_EX) == 0) {
        trim_history(fd);
        write_quietly(fd, record.p, record.n);
    }
    close(fd);
}

static void term_remember(struct ui *ui, const char *line)
{
    struct term *t = ui->data;
    HistEvent ev;

    if (!*line || line_has_secret(line))
        return;
    if (history(t->history, &ev, H_FIRST) == 0 && str_eq(ev.str, line))
        return;
    history(t->history, &ev, H_ENTER, line);
    append_history(t, line);
}

/* --- reading --------------------------------------------------------------------------------- */

static void set_prompt(struct term *t, const char *prompt)
{
    free(t->prompt);
    t->prompt = xstrdup(prompt);
    t->rows = 0;
    t->column = 0;
}

static enum ui_end edit_line(struct term *t, const char *prompt, struct buf *line)
{
    const char *text;
    int n = 0;

    set_prompt(t, prompt);
    show_notices(t, false);
    measure(t);
    el_resize(t->el);
    t->end = UI_GOES_ON;
    t->idle_at = clock_in(t->idle);
    t->fresh = true;
    mark(t, "A");
    if (!t->dumb)
        fputs("\033[?2004h", stdout);
    fflush(stdout);
    text = el_gets(t->el, &n);
    if (!t->dumb)
        fputs("\033[?2004l", stdout);
    if (t->end == UI_INTERRUPTED) {
        fputs("^C\n", stdout);
    } else if (t->end) {
        putchar('\n');
    } else if (!text) {
        t->end = UI_EOF;
        putchar('\n');
    } else {
        buf_add(line, text, (size_t)n);
        while (line->n && (line->p[line->n - 1] == '\n' || line->p[line->n - 1] == '\r'))
            line->p[--line->n] = '\0';
    }
    fflush(stdout);
    mark(t, "C");
    return t->end;
}

/* A line without libedit: no editing but Backspace and Ctrl-U, no history, nothing kept. */
static enum ui_end plain_line(struct term *t, bool echo, bool newline, struct buf *line)
{
    enum ui_end end;
    wchar_t wc;
    char utf8[8];

    for (;;) {
        end = next_key(t, false, &wc);
        if (end || wc == L'\n' || wc == L'\r')
            break;
        if (wc == 4 && !line->n) {
            end = UI_EOF;
            break;
        }
        if (wc == 0x7f || wc == 8) {
            size_t n = line->n;

            while (n && (line->p[n - 1] & 0xc0) == 0x80)
                n--;
            if (line->n) {
                line->n = n ? n - 1 : 0;
                line->p[line->n] = '\0';
                if (echo)
                    fputs("\b \b", stdout);
            }
        } else if (wc == 0x15) {
            for (size_t i = line->n ? characters(buf_str(line)) : 0; i && echo; i--)
                fputs("\b \b", stdout);
            buf_reset(line);
        } else if (wc >= ' ' || wc == L'\t') {
            int n = wctomb(utf8, wc);

            buf_add(line, utf8, n > 0 ? (size_t)n : 0);
            if (echo)
                fwrite(utf8, 1, n > 0 ? (size_t)n : 0, stdout);
        }
        if (t->pos >= t->n)
            fflush(stdout);
    }
    if (line->full)
        buf_reset(line);
    if (end == UI_INTERRUPTED)
        fputs("^C\n", stdout);
    else if (newline)
        fputs("\n", stdout);
    fflush(stdout);
    return end;
}

static void start_plain(struct term *t, const char *prompt)
{
    set_prompt(t, prompt);
    t->idle_at = clock_in(t->idle);
    mark(t, "A");
    fputs(prompt, stdout);
    mark(t, "B");
    fflush(stdout);
}

static enum ui_end term_ask(struct ui *ui, const struct ui_question *q, const char *prompt,
                            struct buf *answer)
{
    struct term *t = ui->data;
    enum ui_end end;

    if (q->secret) {
        start_plain(t, prompt);
        return plain_line(t, false, true, answer);
    }
    t->question = q;
    el_set(t->el, EL_HIST, history, t->no_history);
    end = edit_line(t, prompt, answer);
    el_set(t->el, EL_HIST, history, t->history);
    t->question = NULL;
    return end;
}

static enum ui_end term_line(struct ui *ui, const char *prompt, struct buf *line)
{
    return edit_line(ui->data, prompt, line);
}

static enum ui_end term_block(struct ui *ui, struct buf *text, bool echo)
{
    struct term *t = ui->data;
    AUTO(buf) struct buf line = BUF_INIT(WORDS_MAX_LINE);
    enum ui_end end;

    start_plain(t, "");
    for (;;) {
        buf_reset(&line);
        end = plain_line(t, echo, echo, &line);
        if (end || str_eq(buf_str(&line), "."))
            break;
        buf_add(text, line.p, line.n);
        buf_char(text, '\n');
    }
    if (!echo && end != UI_INTERRUPTED)
        fputs("\n", stdout); /* one for all the lines that were not shown */
    if (line.p)
        explicit_bzero(line.p, line.n);
    return end;
}

/* --- writing --------------------------------------------------------------------------------- */

static bool more(struct term *t)
{
    static const char text[] = "-Press Any Key For More-";
    wchar_t wc = 0;
    enum ui_end end;

    mark(t, "A");
    fputs(text, stdout);
    mark(t, "B");
    fflush(stdout);
    end = next_key(t, false, &wc);
    if (t->dumb)
        printf("\r%*s\r", (int)strlen(text), "");
    else
        fputs("\r\033[K", stdout);
    if (wc == L'\033') /* an arrow key is one key */
        t->pos = t->n;
    t->rows = 0;
    if (end)
        ui_stop(t->ui, end);
    else if (wc == L'q' || wc == L'Q')
        t->ui->stopped = true;
    return !end && !t->ui->stopped;
}

static void term_write(struct ui *ui, const char *text, size_t n)
{
    struct term *t = ui->data;
    mbstate_t state = {0};

    for (size_t i = 0; i < n;) {
        wchar_t wc;
        size_t len = mbrtowc(&wc, text + i, n - i, &state);
        int w;

        if (len == (size_t)-1 || len == (size_t)-2 || !len) {
            state = (mbstate_t){0};
            len = 1;
            wc = L'?';
        }
        w = wc == L'\n' ? 0 : wcwidth(wc);
        if (t->column == 0 && !ui->json && !ui->unpaged && t->height > 2 &&
            t->rows >= t->height - 1 && !more(t))
            break;
        fwrite(text + i, 1, len, stdout);
        t->column += w > 0 ? (unsigned)w : 0;
        if (wc == L'\n') {
            t->rows += 1 + (t->column ? (t->column - 1) / t->width : 0);
            t->column = 0;
        }
        i += len;
    }
    fflush(stdout);
}

static unsigned term_width(const struct ui *ui)
{
    return ((const struct term *)ui->data)->width;
}

static void term_done(struct ui *ui, int exit_code)
{
    const struct term *t = ui->data;
    char text[24];

    snprintf(text, sizeof(text), "D;%d", exit_code);
    mark(t, text);
}

static void term_release(struct ui *ui)
{
    struct term *t = ui->data;

    fflush(stdout);
    el_end(t->el);
    history_end(t->history);
    history_end(t->no_history);
    free(t->history_file);
    free(t->prompt);
    free(t);
}

static const struct backend term_backend = {
    .ask = term_ask,
    .line = term_line,
    .block = term_block,
    .write = term_write,
    .width = term_width,
    .remember = term_remember,
    .done = term_done,
    .release = term_release,
};

struct ui *ui_term_new(struct session *s, const char *history_file, unsigned idle)
{
    struct term *t = xcalloc(1, sizeof(*t));
    const char *term = getenv("TERM"), *marks = getenv("POSTERN_TEST_MARKS");
    HistEvent ev;

    t->s = s;
    t->ui = ui_new(&term_backend, t);
    t->idle = SECONDS(idle);
    t->idle_at = clock_in(t->idle);
    t->marks = str_eq(marks, "1");
    t->dumb = !term || !*term || str_eq(term, "dumb") || str_eq(term, "unknown");
    t->prompt = xstrdup("");
    t->history_file = history_file ? xstrdup(history_file) : NULL;
    measure(t);
    t->history = history_init();
    t->no_history = history_init();
    history(t->history, &ev, H_SETSIZE, HISTORY);
    history(t->no_history, &ev, H_SETSIZE, 1);
    read_history(t);
    t->el = el_init("postern", stdin, stdout, stderr);
    el_set(t->el, EL_CLIENTDATA, t);
    el_set(t->el, EL_PROMPT, prompt_text);
    el_set(t->el, EL_EDITOR, "emacs");
    el_set(t->el, EL_SIGNAL, 0);
    el_set(t->el, EL_HIST, history, t->history);
    el_set(t->el, EL_GETCFN, get_key);
    bind_keys(t->el);
    /* between lines: what is typed ahead is neither echoed nor collected in the kernel's 4096 bytes
     */
    el_set(t->el, EL_SETTY, "-x", "-icanon", "-echo", "-ixon", NULL);
    el_set(t->el, EL_SETTY, "-d", "-ixon", NULL);
    return t->ui;
}
