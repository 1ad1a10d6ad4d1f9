/* ini.c - see ini.h. */
#include "store/ini.h"

#include <string.h>

#include "store/base/str.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(const char *p, const char *end)
{
    while (p < end && is_blank(*p))
        p++;
    while (end > p && is_blank(end[-1]))
        end--;
    return (struct slice){p, (size_t)(end - p)};
}

void ini_begin(struct ini *in, const char *text, size_t n)
{
    *in = (struct ini){
        .p = text, .end = text + n, .section = {text, 0}
    };
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        in->p += 3;
}

static enum ini_step refuse(const struct ini *in, struct err *err, const char *what)
{
    err_set(err, E_INVALID, "Line %u: %s", in->line, what);
    return INI_ERROR;
}

/* The next line without its end; false: there is none. */
static bool next_line(struct ini *in, struct slice *line)
{
    const char *lf;

    if (in->p >= in->end)
        return false;
    in->line++;
    lf = memchr(in->p, '\n', (size_t)(in->end - in->p));
    line->p = in->p;
    line->n = (size_t)((lf ? lf : in->end) - in->p);
    in->p = lf ? lf + 1 : in->end;
    if (line->n && line->p[line->n - 1] == '\r')
        line->n--;
    return true;
}

static bool is_clean(struct slice line)
{
    for (size_t i = 0; i < line.n; i++)
        if (((unsigned char)line.p[i] < 0x20 && line.p[i] != '\t') || line.p[i] == 0x7f)
            return false;
    return str_is_utf8(line.p, line.n);
}

static enum ini_step read_section(struct ini *in, struct slice line, struct err *err)
{
    const char *close = memchr(line.p, ']', line.n);
    struct slice rest;

    /* "[[192.0.2.1]]": an address in brackets of its own */
    while (close && close + 1 < line.p + line.n && close[1] == ']')
        close++;
    if (!close)
        return refuse(in, err, "a section begins with \"[\" and must end with \"]\".");
    rest = trim(close + 1, line.p + line.n);
    if (rest.n && *rest.p != '#' && *rest.p != ';')
        return refuse(in, err, "there is something behind the \"]\" of a section.");
    in->section = trim(line.p + 1, close);
    if (!in->section.n)
        return refuse(in, err, "the section has no name.");
    return INI_SECTION;
}

static enum ini_step read_key(struct ini *in, struct slice line, struct err *err)
{
    const char *sign = line.p, *end = line.p + line.n;

    while (sign < end && *sign != '=' && *sign != ':')
        sign++;
    if (sign == end)
        return refuse(in, err, "this is neither [section] nor key = value.");
    in->key = trim(line.p, sign);
    if (!in->key.n)
        return refuse(in, err, "there is no key before the \"=\".");
    for (const char *p = sign + 1; p < end; p++) {
        if ((*p == '#' || *p == ';') && is_blank(p[-1])) {
            end = p;
            break;
        }
    }
    in->value = trim(sign + 1, end);
    return INI_KEY;
}

enum ini_step ini_next(struct ini *in, struct err *err)
{
    struct slice raw, line;

    while (next_line(in, &raw)) {
        if (raw.n > INI_MAX_LINE)
            return refuse(in, err, "the line is too long.");
        if (!is_clean(raw))
            return refuse(in, err, "the line holds control characters or is not UTF-8.");
        line = trim(raw.p, raw.p + raw.n);
        if (!line.n || *line.p == '#' || *line.p == ';')
            continue;
        return *line.p == '[' ? read_section(in, line, err) : read_key(in, line, err);
    }
    return INI_END;
}
