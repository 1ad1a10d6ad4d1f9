/* hat_file.c - see hat_file.h. Reading: lines make entries, entries become rows, rows are checked
 * together. One table says what the parameters are; reading and writing walk it. */
#include "store/hat_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/net.h"
#include "store/check.h"
#include "store/rules.h"

#define NAME_MAX_LENGTH 32u
#define COMMENT_MAX 200u

static const char *const rules[] = {[BEHAVIOR_ACCEPT] = "ACCEPT",
                                    [BEHAVIOR_RELAY] = "RELAY",
                                    [BEHAVIOR_REJECT] = "REJECT",
                                    [BEHAVIOR_TCPREFUSE] = "TCPREFUSE",
                                    [BEHAVIOR_CONTINUE] = "CONTINUE"};
/* The policy that says a rule and nothing else. */
static const char *const rule_policies[] = {[BEHAVIOR_ACCEPT] = "ACCEPTED",
                                            [BEHAVIOR_RELAY] = "RELAYED",
                                            [BEHAVIOR_REJECT] = "BLOCKED",
                                            [BEHAVIOR_TCPREFUSE] = "TCPREFUSED",
                                            [BEHAVIOR_CONTINUE] = "CONTINUE"};

const char *hat_rule(int behavior)
{
    return rules[behavior];
}

const char *hat_rule_policy(int behavior)
{
    return rule_policies[behavior];
}

int hat_behavior(const char *word)
{
    for (int i = 0; i < (int)countof(rules); i++)
        if (str_ieq(word, rules[i]) || str_ieq(word, choices_behaviors[i].text))
            return i;
    return -1;
}

/* --- the parameters --------------------------------------------------------------------------- */

enum kind {
    NUMBER, /* -1: unlimited, if the field knows that */
    OFF_AT_0, /* the same; 0 is unlimited too */
    CODE,
    TEXT,
    TLS,
    WORDS, /* the words of a choice */
};
static const struct param {
    const char *name, *field;
    enum kind kind;
} params[] = {
    {"max_msgs_per_session",    "max_msgs_per_session", NUMBER  },
    {"max_concurrency",         "max_concurrency",      NUMBER  },
    {"max_rcpts_per_msg",       "max_rcpts_per_msg",    NUMBER  },
    {"max_rcpts_per_hour",      "max_rcpts_per_hour",   NUMBER  },
    {"max_rcpts_per_hour_code", "limit_code",           CODE    },
    {"max_rcpts_per_hour_text", "limit_text",           TEXT    },
    {"max_rcpts_per_sender",    "max_rcpts_per_sender", NUMBER  },
    {"sender_minutes",          "sender_minutes",       NUMBER  },
    {"dhap_limit",              "dhap_limit",           OFF_AT_0},
    {"dhap_action",             "dhap_action",          WORDS   },
    {"dhap_code",               "dhap_code",            CODE    },
    {"dhap_text",               "dhap_text",            TEXT    },
    {"max_message_size",        "max_message_size",     NUMBER  },
    {"override_hostname",       "banner_host",          TEXT    },
    {"smtp_banner_code",        "accept_code",          CODE    }, /* of a policy that refuses: its refusal */
    {"smtp_banner_text",        "accept_text",          TEXT    },
    {"reject_code",             "reject_code",          CODE    },
    {"reject_text",             "reject_text",          TEXT    },
    {"tls",                     "tls",                  TLS     },
    {"verify_client",           "verify_client",        WORDS   },
    {"tls_senders",             "tls_senders",          TEXT    },
    {"smtp_auth",               "auth",                 WORDS   },
    {"auth_needs_tls",          "auth_needs_tls",       WORDS   },
    {"line_endings",            "line_endings",         WORDS   },
    {"accept_untagged_bounces", "untagged_bounces",     WORDS   },
};

/* Known elsewhere, and nothing here: the beginnings of their names. */
static const char foreign[] =
    "spam virus use_sb sb_ sbrs sig_bits signed_bits dkim dk_ domainkeys spf sidf "
    "dmarc smime s_mime env_sender envelope_ exception_ domain_exc untagged "
    "accept_untagged bounce_ amp_ advanced_ graymail outbreak ldap significant_bits "
    "callahead dns_ sender_verif max_inv sender_dns use_default sdr_";

static bool is_foreign(const char *name)
{
    for (const char *p = foreign; *p;) {
        size_t n = strcspn(p, " ");

        if (strncasecmp(name, p, n) == 0)
            return true;
        p += n + strspn(p + n, " ");
    }
    return false;
}

static const struct param *find_param(const char *name)
{
    for (size_t i = 0; i < countof(params); i++)
        if (str_ieq(params[i].name, name))
            return &params[i];
    return NULL;
}

/* The field: what is a greeting for those who are let in is the refusal for the others. */
static const char *field_of(const struct param *p, int behavior)
{
    bool refuses = behavior == BEHAVIOR_REJECT || behavior == BEHAVIOR_TCPREFUSE;

    if (str_eq(p->name, "smtp_banner_code"))
        return refuses ? "reject_code" : "accept_code";
    if (str_eq(p->name, "smtp_banner_text"))
        return refuses ? "reject_text" : "accept_text";
    if (str_eq(p->name, "reject_code"))
        return refuses ? "accept_code" : "reject_code";
    if (str_eq(p->name, "reject_text"))
        return refuses ? "accept_text" : "reject_text";
    return p->field;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void put_string(struct buf *out, const char *text)
{
    buf_char(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buf_char(out, '\\');
        buf_char(out, *text);
    }
    buf_char(out, '"');
}

static void put_number(const struct field *f, uint64_t value, const struct param *p,
                       struct buf *out)
{
    if (f->top && value == f->max)
        buf_str_add(out, p->kind == OFF_AT_0 ? "0" : "-1");
    else
        buf_printf(out, "%llu", (unsigned long long)value);
}

static void put_value(const struct row *r, const struct field *f, const struct param *p,
                      struct buf *out)
{
    const char *text = row_text(r, f->name);

    switch (p->kind) {
    case NUMBER:
    case OFF_AT_0:
    case CODE:
        put_number(f, *(const uint64_t *)row_slot(r, f), p, out);
        break;
    case TLS:
        put_string(out, str_eq(text, "preferred") ? "on" : text);
        break;
    default:
        put_string(out, text);
    }
}

/* Settings without a name in the files of other systems have ours. */
static bool has_param(const struct field *f)
{
    if (f->key || str_eq(f->name, "behavior"))
        return true;
    for (size_t i = 0; i < countof(params); i++)
        if (str_eq(params[i].field, f->name))
            return true;
    return false;
}

static void put_lead(bool *open, const char *name, struct buf *out)
{
    if (!*open)
        buf_str_add(out, " {\n");
    *open = true;
    buf_printf(out, "        %s = ", name);
}

/* reject_code and reject_text of a policy that refuses are its banner; the greeting it never gives
 * has no name in the file and is printed under that of the other. */
static void put_params(const struct row *r, struct buf *out)
{
    struct row *fresh = row_new(r->section, NULL);
    int behavior = ((const struct mail_policy *)r->data)->behavior;
    bool open = false;

    for (size_t i = 0; i < countof(params); i++) {
        const struct param *p = &params[i];
        const struct field *f = field_find(r->section, field_of(p, behavior));

        if (f->type->equal(row_slot(r, f), row_slot(fresh, f)))
            continue;
        put_lead(&open, p->name, out);
        put_value(r, f, p, out);
        buf_char(out, '\n');
    }
    for (size_t i = 0; i < r->section->nfields; i++) {
        const struct field *f = &r->section->fields[i];

        if (has_param(f) || f->type->equal(row_slot(r, f), row_slot(fresh, f)))
            continue;
        put_lead(&open, f->name, out);
        put_string(out, row_text(r, f->name));
        buf_char(out, '\n');
    }
    row_free(&fresh);
    buf_str_add(out, open ? "    }\n" : "\n");
}

void hat_file_policy(const struct mail_policy *p, struct buf *out)
{
    /* the row is wanted for its fields alone */
    const struct row r = {.section = &section_mail_policy, .data = (void *)(uintptr_t)p};

    buf_printf(out, "$%s\n    %s", p->name, rules[p->behavior]);
    put_params(&r, out);
}

/* A comment ends with its line and at its last parenthesis. */
static void put_comment(const char *comment, struct buf *out)
{
    if (!*comment)
        return;
    buf_str_add(out, " (");
    for (; *comment; comment++)
        buf_char(out, (unsigned char)*comment < ' ' || *comment == 0x7f ? ' ' : *comment);
    buf_char(out, ')');
}

bool hat_is_all(const struct sender_group *g)
{
    return str_eq(g->name, "ALL") && g->hosts.n == 1 && str_eq(g->hosts.items[0], "ALL");
}

void hat_all_last(const struct row **groups, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        const struct row *all = groups[i];

        if (!hat_is_all(all->data))
            continue;
        memmove(&groups[i], &groups[i + 1], (n - 1 - i) * sizeof(struct row *));
        groups[n - 1] = all;
        return;
    }
}

void hat_file_group(const struct sender_group *g, struct buf *out)
{
    bool all = hat_is_all(g);

    buf_printf(out, all ? "%s\n" : "%s:\n", g->name);
    for (size_t i = 0; !all && i < g->hosts.n; i++)
        buf_printf(out, "    %s\n", g->hosts.items[i]);
    buf_printf(out, "%s$%s", all ? "    " : "        ", g->policy);
    put_comment(g->comment, out);
    buf_char(out, '\n');
}

void hat_file_all(const struct listener *l, struct buf *out)
{
    buf_printf(out, "ALL\n    %s\n", rules[l->default_behavior]);
}

void hat_file_export(const struct config *cfg, const char *listener, struct buf *out)
{
    size_t first, n = config_children(cfg, &section_mail_policy, listener, &first);
    const struct row **groups;
    bool all = false;

    buf_printf(out, "# File exported by the CLI: host access table of %s\n", listener);
    for (size_t i = first; i < first + n; i++)
        hat_file_policy(config_at(cfg, &section_mail_policy, i)->data, out);
    groups = config_ordered(cfg, &section_sender_group, listener, &n);
    hat_all_last(groups, n);
    for (size_t i = 0; i < n; i++) {
        hat_file_group(groups[i]->data, out);
        all = hat_is_all(groups[i]->data);
    }
    free(groups);
    if (!all)
        hat_file_all(CONFIG_GET(cfg, listener, listener), out);
}

/* --- reading ---------------------------------------------------------------------------------- */

enum skipped { PARAMETERS, SENDERS, COMMENTS, NAMES, LONG_COMMENTS, SKIPPED };

struct group { /* of the file */
    struct row *row;
    unsigned line;
    int behavior; /* -1: the policy is named, else a policy that says this and no more has to be
                     found */
    bool bare; /* of hosts that stood alone */
};

struct reading {
    const struct config *base;
    const char *listener;
    struct config_edits *out;
    struct hat_facts *facts;
    struct err *err;

    const char *p, *end; /* what is left of the text; line is the number of the one p stands in */
    unsigned line;
    const char *object; /* "$THROTTLED", for messages; in name */
    char name[300];

    struct map policies; /* name: row */
    struct map policy_lines; /* name: number of its line, of those of the file */
    const char *plain[countof(rules)]; /* names of policies that say a rule and nothing else */
    struct map group_names; /* name: row */
    struct group *groups;
    size_t n, cap;
    struct map hosts; /* of the group being read */
    unsigned bare; /* groups of bare hosts so far */
    size_t skipped[SKIPPED];
    struct strlist kinds; /* of parameters and senders that were left out, each once */
};

/* "line 12, $THROTTLED, tls: " before the sentence. */
static bool __attribute__((format(printf, 4, 5)))
refuse(struct reading *r, unsigned line, const char *param, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(2000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    return err_set(r->err, E_INVALID, "line %u%s%s%s%s: %s", line, r->object ? ", " : "",
                   r->object ? str_printable(r->object) : "", param ? ", " : "",
                   param ? str_printable(param) : "", buf_str(&text));
}

static void skip(struct reading *r, enum skipped what, const char *kind)
{
    r->skipped[what]++;
    if (kind && r->kinds.n < 20 && !strlist_has(&r->kinds, kind))
        strlist_add(&r->kinds, kind);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(const char *p, const char *end)
{
    while (p < end && is_blank(*p))
        p++;
    while (end > p && is_blank(end[-1]))
        end--;
    return (struct slice){p, (size_t)(end - p)};
}

/* The line p stands in, without the blanks around it; p is left where it is. */
static struct slice this_line(const struct reading *r)
{
    const char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));

    return trim(r->p, nl ? nl : r->end);
}

static void next_line(struct reading *r)
{
    const char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));

    r->p = nl ? nl + 1 : r->end;
    r->line += nl != NULL;
}

/* Over empty lines and comments; false: the end. */
static bool find_line(struct reading *r)
{
    while (r->p < r->end) {
        struct slice line = this_line(r);

        if (line.n && *line.p != '#')
            return true;
        next_line(r);
    }
    return false;
}

static bool is_indented(const struct reading *r)
{
    return r->p < r->end && is_blank(*r->p);
}

/* A name of ours for one of theirs, which may hold other characters and be longer. */
static void take_name(struct reading *r, struct slice theirs, char out[NAME_MAX_LENGTH + 1])
{
    size_t n = theirs.n < NAME_MAX_LENGTH ? theirs.n : NAME_MAX_LENGTH;
    bool same = theirs.n == n;

    for (size_t i = 0; i < n; i++) {
        char c = theirs.p[i];
        bool ok = isalnum((unsigned char)c) || c == '_' || (i && (c == '-' || c == '.'));

        out[i] = ok ? c : '_';
        same = same && ok;
    }
    out[n] = '\0';
    if (!same)
        skip(r, NAMES, NULL);
}

static char *full_name(const struct reading *r, const char *leaf)
{
    return xasprintf("%s/%s", r->listener, leaf);
}

static struct row *new_row(const struct reading *r, const struct section *sec, const char *leaf)
{
    char *full = full_name(r, leaf);
    struct row *row = row_new(sec, full);

    free(full);
    return row;
}

/* Does a policy say nothing but its rule? */
static bool row_is_fresh(const struct row *policy)
{
    struct row *fresh = row_new(policy->section, NULL);
    bool same = true;

    for (size_t i = 0; same && i < policy->section->nfields; i++) {
        const struct field *f = &policy->section->fields[i];

        same = f->key || str_eq(f->name, "behavior") ||
               f->type->equal(row_slot(policy, f), row_slot(fresh, f));
    }
    row_free(&fresh);
    return same;
}

/* Everything but the name. */
static void copy_values(struct row *to, const struct row *from)
{
    for (size_t i = 0; i < to->section->nfields; i++) {
        const struct field *f = &to->section->fields[i];

        if (f->key)
            continue;
        f->type->release(row_slot(to, f));
        f->type->copy(row_slot(to, f), row_slot(from, f));
    }
}

/* --- a rule and its parameters --- */

static int behavior_of(struct slice word)
{
    for (int i = 0; i < (int)countof(rules); i++)
        if (slice_ieq(word, rules[i]))
            return i;
    return -1;
}

static size_t word_length(struct slice line)
{
    size_t n = 0;

    while (n < line.n && !is_blank(line.p[n]) && line.p[n] != '{' && line.p[n] != '(')
        n++;
    return n;
}

static bool is_rule(struct slice line)
{
    size_t n = word_length(line);

    return n && (*line.p == '$' || behavior_of((struct slice){line.p, n}) >= 0);
}

/* Blanks and line ends within braces, and comments between the parameters. */
static void skip_space(struct reading *r)
{
    while (r->p < r->end &&
           (is_blank(*r->p) || *r->p == '\n' || *r->p == ';' || *r->p == ',' || *r->p == '#')) {
        if (*r->p == '#') {
            const char *nl = memchr(r->p, '\n', (size_t)(r->end - r->p));

            r->p = nl ? nl : r->end;
            continue;
        }
        r->line += *r->p == '\n';
        r->p++;
    }
}

static bool read_string(struct reading *r, const char *param, struct buf *value)
{
    for (r->p++; r->p < r->end && *r->p != '"' && *r->p != '\n'; r->p++) {
        if (*r->p == '\\' && r->p + 1 < r->end && r->p[1] != '\n')
            r->p++;
        buf_char(value, *r->p);
    }
    if (r->p == r->end || *r->p != '"')
        return refuse(r, r->line, param, "The closing quotation mark is missing on this line.");
    r->p++;
    return true;
}

/* name = value; *more false: the closing brace. */
static bool read_param(struct reading *r, struct buf *name, struct buf *value, bool *more)
{
    const char *begin;

    buf_reset(name);
    buf_reset(value);
    skip_space(r);
    if (r->p == r->end)
        return refuse(r, r->line, NULL, "The closing brace \"}\" is missing.");
    *more = *r->p != '}';
    if (!*more) {
        r->p++;
        return true;
    }
    for (begin = r->p; r->p < r->end && (isalnum((unsigned char)*r->p) || *r->p == '_'); r->p++)
        ;
    if (r->p == begin || (size_t)(r->p - begin) > 64)
        return refuse(r, r->line, NULL,
                      "A parameter is written \"name = value\", before the closing brace \"}\".");
    buf_add(name, begin, (size_t)(r->p - begin));
    while (r->p < r->end && is_blank(*r->p))
        r->p++;
    if (r->p == r->end || *r->p != '=')
        return refuse(r, r->line, buf_str(name), "There is no \"= value\" behind it.");
    for (r->p++; r->p < r->end && is_blank(*r->p); r->p++)
        ;
    if (r->p < r->end && *r->p == '"')
        return read_string(r, buf_str(name), value);
    for (begin = r->p; r->p < r->end && !isspace((unsigned char)*r->p) && *r->p != '}' &&
                       *r->p != ',' && *r->p != ';';)
        r->p++;
    buf_add(value, begin, (size_t)(r->p - begin));
    return value->n || refuse(r, r->line, buf_str(name), "There is no value behind the \"=\".");
}

static const char *our_value(const struct param *p, const struct field *f, const char *value)
{
    bool is_number = p->kind == NUMBER || p->kind == OFF_AT_0;

    if (str_ieq(value, "default"))
        return f->type == &type_text || f->type == &type_list ? "" : "default";
    if (is_number && f->top && (str_eq(value, "-1") || (p->kind == OFF_AT_0 && str_eq(value, "0"))))
        return f->top;
    if (p->kind == TLS && str_ieq(value, "on"))
        return "preferred";
    if (str_eq(p->field, "auth") && str_ieq(value, "on"))
        return "preferred";
    if (str_eq(p->field, "banner_host") && (str_ieq(value, "no") || str_ieq(value, "off")))
        return "";
    return value;
}

static const struct field *own_field(const char *name)
{
    for (size_t i = 0; i < section_mail_policy.nfields; i++) {
        const struct field *f = &section_mail_policy.fields[i];

        if (str_ieq(f->name, name))
            return has_param(f) ? NULL : f;
    }
    return NULL;
}

/* Where "_verify" would begin. */
static size_t verify_form(const char *value)
{
    size_t n = strlen(value);

    return n > 7 ? n - 7 : n;
}

static bool set_param(struct reading *r, struct row *policy, const char *name, const char *value)
{
    const struct param *p = find_param(name);
    const struct field *f;
    struct err err = {0};

    if (!p && str_ieq(name, "auth"))
        p = find_param("smtp_auth");
    if (str_ieq(name, "use_override_hostname")) /* the name itself says whether */
        return true;
    f = p ? NULL : own_field(name);
    if (f)
        return row_set(policy, f->name, value, &err) || refuse(r, r->line, f->name, "%s", err.text);
    if (!p && is_foreign(name)) {
        skip(r, PARAMETERS, name);
        return true;
    }
    if (!p)
        return refuse(r, r->line, name,
                      "There is no such parameter; correct its name, or remove the line.");
    f = field_find(&section_mail_policy,
                   field_of(p, ((const struct mail_policy *)policy->data)->behavior));
    if (p->kind == TLS &&
        str_ieq(value + verify_form(value), "_verify")) { /* "on_verify", "require_verify" */
        row_set(policy, "verify_client", "on", NULL);
        value = str_istarts(value, "on") ? "preferred" : "required";
    }
    value = our_value(p, f, value);
    if (!row_set(policy, f->name, value, &err))
        return refuse(r, r->line, p->name, "%s", err.text);
    if ((f->type == &type_uint || f->type == &type_size) &&
        !*(const uint64_t *)row_slot(policy, f) && !str_ieq(value, "default"))
        return refuse(r, r->line, p->name,
                      "0 is no limit; write a greater number%s, or remove the line.",
                      f->top ? ", -1 for none" : "");
    return true;
}

static bool read_params(struct reading *r, struct row *policy, bool *any)
{
    AUTO(buf) struct buf name = BUF_INIT(100), value = BUF_INIT(64u << 10);
    bool more = true;

    for (r->p++; read_param(r, &name, &value, &more) && more;) {
        if (value.full)
            return refuse(r, r->line, buf_str(&name), "The value is too long.");
        if (!set_param(r, policy, buf_str(&name), buf_str(&value)))
            return false;
        *any = true;
    }
    return !more;
}

struct rule {
    unsigned line;
    int behavior; /* -1: a policy, named in policy */
    char policy[NAME_MAX_LENGTH + 1];
    struct row
        *params; /* a policy with the parameters in braces; NULL: there were none. To be freed */
    char comment[COMMENT_MAX + 1];
};

static void take_comment(struct reading *r, struct slice c, char out[COMMENT_MAX + 1])
{
    size_t n = c.n < COMMENT_MAX ? c.n : COMMENT_MAX;

    if (n < c.n) {
        while (n && ((unsigned char)c.p[n] & 0xc0) == 0x80) /* not within a character */
            n--;
        skip(r, LONG_COMMENTS, NULL);
    }
    slice_copy((struct slice){c.p, n}, out, COMMENT_MAX + 1);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
}

/* The rule in this line, with what follows it; p goes behind. */
static bool read_rule(struct reading *r, struct rule *out)
{
    struct slice line = this_line(r), rest;
    size_t n = word_length(line);
    bool any = false;

    *out = (struct rule){.line = r->line, .behavior = behavior_of((struct slice){line.p, n})};
    if (out->behavior < 0) {
        if (n < 2 || *line.p != '$')
            return refuse(
                r, r->line, NULL,
                "This is no rule; write ACCEPT, RELAY, REJECT, TCPREFUSE, CONTINUE or $POLICY.");
        take_name(r, (struct slice){line.p + 1, n - 1}, out->policy);
    }
    r->p = line.p + n;
    rest = this_line(r);
    if (rest.n && *rest.p == '{') {
        if (out->behavior < 0)
            return refuse(r, r->line, NULL, "Parameters follow a rule, not a policy.");
        out->params = row_new(&section_mail_policy, NULL);
        ((struct mail_policy *)out->params->data)->behavior = out->behavior;
        r->p = rest.p;
        if (!read_params(r, out->params, &any)) {
            row_free(&out->params);
            return false;
        }
        if (!any || row_is_fresh(out->params))
            row_free(&out->params);
        rest = this_line(r);
    }
    if (rest.n && *rest.p == '(' && rest.p[rest.n - 1] == ')') {
        take_comment(r, (struct slice){rest.p + 1, rest.n - 2}, out->comment);
    } else if (rest.n && *rest.p != '#') {
        row_free(&out->params);
        return refuse(r, r->line, NULL,
                      "\"%.*s\" does not belong here; a comment stands in parentheses.",
                      (int)(rest.n < 60 ? rest.n : 60), rest.p);
    }
    next_line(r);
    return true;
}

/* The rule of an entry that began before; hosts in front of it are a group's. */
static bool expect_rule(struct reading *r, struct rule *out)
{
    if (find_line(r) && is_indented(r))
        return read_rule(r, out);
    return refuse(r, r->line, NULL,
                  "There is no rule below it; write ACCEPT, RELAY, REJECT, TCPREFUSE, CONTINUE or "
                  "$POLICY, indented.");
}

/* The rule of an entry whose name has n bytes, in the same line or below. */
static bool rule_below(struct reading *r, struct slice head, size_t n, struct rule *out)
{
    r->p = head.p + n;
    if (!this_line(r).n)
        next_line(r);
    else if (!is_rule(this_line(r)))
        return refuse(r, r->line, NULL,
                      "The name of an entry stands alone, its rule in the next line.");
    return expect_rule(r, out);
}

/* --- entries --- */

static bool read_policy(struct reading *r, struct slice head)
{
    size_t n = word_length(head);
    char name[NAME_MAX_LENGTH + 1];
    unsigned line = r->line;
    struct rule rule = {0};
    struct row *row;
    struct err err = {0};

    if (n < 2)
        return refuse(r, line, NULL, "The policy has no name; write \"$NAME\".");
    take_name(r, (struct slice){head.p + 1, n - 1}, name);
    if (map_get(&r->policies, name))
        return refuse(r, line, NULL, "The policy stands twice; remove one.");
    if (!rule_below(r, head, n, &rule))
        return false;
    if (rule.behavior < 0)
        return refuse(r, rule.line, NULL,
                      "A policy cannot be another one; write ACCEPT, RELAY, REJECT, TCPREFUSE "
                      "or CONTINUE.");
    row = new_row(r, &section_mail_policy, name);
    if (rule.params)
        copy_values(row, rule.params);
    row_free(&rule.params);
    if (!row_set(row, "name", name, &err)) {
        row_free(&row);
        return refuse(r, line, NULL, "%s", err.text);
    }
    ((struct mail_policy *)row->data)->behavior = rule.behavior;
    map_set(&r->policies, name, row);
    map_set(&r->policy_lines, name, (void *)(uintptr_t)line);
    r->facts->policies++;
    return true;
}

static bool is_foreign_sender(struct slice host)
{
    static const char *const beginnings[] = {"SBRS[", "SBO:",     "dnslist[",
                                             "geo[",  "country[", "geolocation["};
    static const char *const words[] = {"nx.domain", "serv.fail", "not.double.verified"};

    for (size_t i = 0; i < countof(beginnings); i++)
        if (host.n >= strlen(beginnings[i]) &&
            slice_ieq((struct slice){host.p, strlen(beginnings[i])}, beginnings[i]))
            return true;
    for (size_t i = 0; i < countof(words); i++)
        if (slice_ieq(host, words[i]))
            return true;
    return false;
}

/* One sender into the group; what the group has already is dropped. */
static bool add_sender(struct reading *r, struct group *g, struct slice host, unsigned line)
{
    static const struct field *f;
    struct sender_group *to = g->row->data;
    char text[300];
    struct err err = {0};

    if (is_foreign_sender(host)) {
        size_t n = 0;

        while (n < host.n && n < 40 && host.p[n] != '[' && host.p[n] != ':')
            n++;
        slice_copy((struct slice){host.p, n}, text, sizeof(text));
        skip(r, SENDERS, text);
        return true;
    }
    if (host.n >= sizeof(text))
        return refuse(r, line, NULL, "A host of %zu characters is too long.", host.n);
    slice_copy(host, text, sizeof(text));
    if (str_ieq(text, "ALL"))
        str_copy(text, sizeof(text), "ALL");
    f = field_find(&section_sender_group, "hosts");
    if (!check_sender(f, text, &err))
        return refuse(r, line, NULL, "%s", err.text);
    if (strlen(text) > f->max)
        return refuse(r, line, NULL, "A host of %zu characters is too long.", host.n);
    if (map_get(&r->hosts, text))
        return true;
    map_set(&r->hosts, text, r);
    strlist_add(&to->hosts, text);
    r->facts->hosts++;
    return true;
}

/* "192.0.2.1, .example.com (a comment)" */
static bool read_senders(struct reading *r, struct group *g, struct slice line)
{
    const char *comment = memchr(line.p, '(', line.n), *end = line.p + line.n, *p = line.p;

    if (comment) {
        skip(r, COMMENTS, NULL);
        end = comment;
    }
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;
        struct slice host = trim(p, stop);

        if (host.n && !add_sender(r, g, host, r->line))
            return false;
        p = stop + (comma != NULL);
    }
    return true;
}

static struct group *add_group(struct reading *r, const char *name)
{
    struct group *g;

    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 16;
        r->groups = xrealloc(r->groups, r->cap * sizeof(*r->groups));
    }
    g = &r->groups[r->n++];
    *g = (struct group){
        .row = new_row(r, &section_sender_group, name), .line = r->line, .behavior = -1};
    row_set(g->row, "name", name, NULL);
    map_set(&r->group_names, name, g->row);
    map_free(&r->hosts);
    return g;
}

/* A name that neither the map nor a policy has: "SPAM", "SPAM_2". */
static void free_name(const struct map *taken, const char *wanted, char out[NAME_MAX_LENGTH + 1])
{
    str_copy(out, NAME_MAX_LENGTH + 1, wanted);
    for (unsigned i = 2; map_get(taken, out); i++) {
        char number[16];
        int n = snprintf(number, sizeof(number), "_%u", i);

        str_copy(out, NAME_MAX_LENGTH + 1 - (size_t)n, wanted);
        str_copy(out + strlen(out), NAME_MAX_LENGTH + 1 - strlen(out), number);
    }
}

/* The group takes what the rule says. */
static void apply_rule(struct reading *r, struct group *g, struct rule *rule)
{
    struct sender_group *to = g->row->data;

    if (rule->params) {
        char name[NAME_MAX_LENGTH + 1];
        struct row *policy;

        free_name(&r->policies, row_leaf(g->row), name);
        policy = new_row(r, &section_mail_policy, name);
        copy_values(policy, rule->params);
        row_set(policy, "name", name, NULL);
        row_free(&rule->params);
        map_set(&r->policies, name, policy);
        row_set(g->row, "policy", name, NULL);
    } else if (rule->behavior >= 0) {
        g->behavior = rule->behavior;
    } else {
        row_set(g->row, "policy", rule->policy, NULL);
    }
    free(to->comment);
    to->comment = xstrdup(rule->comment);
}

static bool read_group(struct reading *r, struct slice head)
{
    char name[NAME_MAX_LENGTH + 1];
    struct group *g;
    struct rule rule = {0};

    take_name(r, (struct slice){head.p, head.n - 1}, name);
    if (!*name)
        return refuse(r, r->line, NULL, "The sender group has no name; write \"NAME:\".");
    if (map_get(&r->group_names, name))
        return refuse(r, r->line, NULL, "The sender group stands twice; put its hosts into one.");
    g = add_group(r, name);
    next_line(r);
    while (find_line(r) && is_indented(r) && !is_rule(this_line(r))) {
        if (!read_senders(r, g, this_line(r)))
            return false;
        next_line(r);
    }
    if (!expect_rule(r, &rule))
        return false;
    apply_rule(r, g, &rule);
    r->facts->groups++;
    return true;
}

static bool same_rule(const struct group *g, const struct rule *rule)
{
    const struct sender_group *to = g->row->data;

    return g->bare && !rule->params && g->behavior == rule->behavior &&
           (rule->behavior >= 0 || str_eq(to->policy, rule->policy)) &&
           str_eq(to->comment, rule->comment);
}

/* A host at the beginning of a line, with a rule of its own. */
static bool read_host(struct reading *r, struct slice head)
{
    struct slice host = {head.p, word_length(head)};
    unsigned line = r->line;
    struct rule rule = {0};
    struct group *g = r->n ? &r->groups[r->n - 1] : NULL;

    if (!rule_below(r, head, host.n, &rule))
        return false;
    if (!g || !same_rule(g, &rule)) {
        char wanted[NAME_MAX_LENGTH + 1], name[NAME_MAX_LENGTH + 1];

        snprintf(wanted, sizeof(wanted), "HOSTS_%u", ++r->bare);
        free_name(&r->group_names, wanted, name);
        g = add_group(r, name);
        g->line = line;
        apply_rule(r, g, &rule);
        g->bare = true;
        r->facts->groups++;
    }
    return add_sender(r, g, host, line);
}

/* The end of the table: what the listener does anyway, or a group that stands for it. */
static bool read_all_entry(struct reading *r, struct slice head)
{
    const struct listener *l = CONFIG_GET(r->base, listener, r->listener);
    unsigned line = r->line;
    struct rule rule = {0};
    struct group *g;

    if (!rule_below(r, head, word_length(head), &rule))
        return false;
    if (rule.behavior == BEHAVIOR_RELAY || rule.behavior == BEHAVIOR_CONTINUE) {
        row_free(&rule.params);
        return refuse(r, rule.line, NULL,
                      rule.behavior == BEHAVIOR_RELAY
                          ? "Relaying for all senders makes an open relay; name the senders that "
                            "may relay in a "
                            "sender group."
                          : "Nothing is left to continue with; write ACCEPT, REJECT or TCPREFUSE.");
    }
    if (find_line(r)) {
        row_free(&rule.params);
        return refuse(r, r->line, NULL,
                      "Nothing may follow ALL, which matches every sender; move it to the end.");
    }
    if (rule.behavior >= 0 && !rule.params && rule.behavior == l->default_behavior)
        return true;
    if (map_get(&r->group_names, "ALL")) {
        row_free(&rule.params);
        return refuse(r, line, NULL,
                      "A sender group is named ALL already; give that another name.");
    }
    g = add_group(r, "ALL");
    g->line = line;
    apply_rule(r, g, &rule);
    strlist_add(&((struct sender_group *)g->row->data)->hosts, "ALL");
    return true;
}

static bool read_entry(struct reading *r)
{
    struct slice line = this_line(r);
    struct net net;
    char text[ADDR_TEXT];

    snprintf(r->name, sizeof(r->name), "%.*s",
             (int)(word_length(line) < 100 ? word_length(line) : 100), line.p);
    r->object = r->name;
    if (is_indented(r)) {
        r->object = NULL;
        return refuse(r, r->line, NULL,
                      "This line belongs to nothing: a policy, a sender group or a host begins at "
                      "the beginning of a line.");
    }
    if (*line.p == '$')
        return read_policy(r, line);
    slice_copy(line, text, sizeof(text));
    if (line.p[line.n - 1] == ':' && !(line.n < sizeof(text) && net_parse(text, &net, NULL)))
        return read_group(r, line);
    if (str_ieq(r->name, "ALL"))
        return read_all_entry(r, line);
    return read_host(r, line);
}

/* --- the table as a whole --- */

/* The policy that says the rule and nothing else, made if there is none. */
static const char *find_plain(struct reading *r, int behavior)
{
    char name[NAME_MAX_LENGTH + 1];
    size_t pos = 0;
    const char *key, *best = NULL;
    void *value;
    struct row *row;

    while (map_next(&r->policies, &pos, &key, &value)) {
        row = value;
        if (((const struct mail_policy *)row->data)->behavior == behavior && row_is_fresh(row) &&
            (!best || strcmp(key, best) < 0))
            best = key;
    }
    if (best)
        return best;
    free_name(&r->policies, rule_policies[behavior], name);
    row = new_row(r, &section_mail_policy, name);
    row_set(row, "name", name, NULL);
    ((struct mail_policy *)row->data)->behavior = behavior;
    map_set(&r->policies, name, row);
    return row_leaf(row);
}

static const char *plain_policy(struct reading *r, int behavior)
{
    if (!r->plain[behavior])
        r->plain[behavior] = find_plain(r, behavior);
    return r->plain[behavior];
}

/* Policies the file names and does not define stay. */
static bool find_policies(struct reading *r)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct sender_group *to = r->groups[i].row->data;
        const struct row *there;
        char *full;

        if (r->groups[i].behavior >= 0) {
            row_set(r->groups[i].row, "policy", plain_policy(r, r->groups[i].behavior), NULL);
            continue;
        }
        if (map_get(&r->policies, to->policy))
            continue;
        full = full_name(r, to->policy);
        there = config_row(r->base, &section_mail_policy, full);
        free(full);
        r->object = to->name;
        if (!there)
            return refuse(r, r->groups[i].line, NULL,
                          "There is no policy $%s; define it in the file.", to->policy);
        map_set(&r->policies, to->policy, row_ref((struct row *)(uintptr_t)there));
    }
    return true;
}

static void put_edits(struct reading *r)
{
    static const struct section *const both[] = {&section_mail_policy, &section_sender_group};
    size_t pos = 0;
    const char *key;
    void *value;

    for (size_t s = 0; s < countof(both); s++) { /* what there was goes */
        size_t first, n = config_children(r->base, both[s], r->listener, &first);

        for (size_t i = first; i < first + n; i++)
            config_edits_put(r->out, both[s], config_at(r->base, both[s], i)->name, NULL);
    }
    while (map_next(&r->policies, &pos, &key, &value)) {
        struct row *row = value;

        if (row != config_row(r->base, &section_mail_policy, row->name))
            row_freeze(row);
        config_edits_put(r->out, &section_mail_policy, row->name, row_ref(row));
    }
    for (size_t i = 0; i < r->n; i++) {
        struct row *row = r->groups[i].row;

        ((struct sender_group *)row->data)->position =
            hat_is_all(row->data) ? HAT_LAST : (uint64_t)i + 1;
        row_freeze(row);
        config_edits_put(r->out, &section_sender_group, row->name, row_ref(row));
    }
}

static bool first_error(struct reading *r, unsigned line, const struct check *check)
{
    for (size_t i = 0; i < check->n; i++)
        if (!check->items[i].warning)
            return refuse(r, line, check->items[i].field, "%s", check->items[i].text);
    return true;
}

/* The rules over several rows, with the line of the group that breaks one. */
static bool check_all(struct reading *r)
{
    struct config *cfg = config_edit(r->base, r->out->items, r->out->n, 1);
    bool ok = true;
    size_t pos = 0;
    const char *key;
    void *value;

    for (size_t i = 0; ok && i < r->n; i++) {
        struct check check = {.row = r->groups[i].row, .errors_only = true};

        check_sender_group(cfg, check.row, &check);
        r->object = row_leaf(check.row);
        ok = first_error(r, r->groups[i].line, &check);
        check_free(&check);
    }
    while (ok && map_next(&r->policies, &pos, &key, &value)) {
        struct check check = {.row = value, .errors_only = true};

        check_mail_policy(cfg, value, &check);
        snprintf(r->name, sizeof(r->name), "$%s", key);
        r->object = r->name;
        ok = first_error(r, (unsigned)(uintptr_t)map_get(&r->policy_lines, key), &check);
        check_free(&check);
    }
    config_free(&cfg);
    return ok;
}

static void __attribute__((format(printf, 2, 3))) remark(struct reading *r, const char *fmt, ...)
{
    AUTO(buf) struct buf text = BUF_INIT(2000);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    strlist_add(&r->facts->remarks, buf_str(&text));
}

static void add_remarks(struct reading *r)
{
    AUTO(buf) struct buf kinds = BUF_INIT(1000);

    for (size_t i = 0; i < r->kinds.n; i++)
        buf_printf(&kinds, "%s%s", i ? ", " : "", str_printable(r->kinds.items[i]));
    if (r->skipped[PARAMETERS] + r->skipped[SENDERS])
        remark(r,
               "Left out, for this gateway has nothing of the kind: %zu parameters and %zu senders "
               "(%s).",
               r->skipped[PARAMETERS], r->skipped[SENDERS], buf_str(&kinds));
    if (r->skipped[COMMENTS])
        remark(r, "Left out: comments of %zu single hosts; a group has one.", r->skipped[COMMENTS]);
    if (r->skipped[LONG_COMMENTS])
        remark(r, "Comments of %zu entries were cut to %u characters.", r->skipped[LONG_COMMENTS],
               COMMENT_MAX);
    if (r->skipped[NAMES])
        remark(r,
               "%zu names were changed: letters, digits, \"_\", \"-\" and \".\" are allowed, at "
               "most %u.",
               r->skipped[NAMES], NAME_MAX_LENGTH);
    if (r->bare)
        remark(r, "Hosts with rules of their own became %u sender groups HOSTS_1 and so on.",
               r->bare);
}

bool hat_file_import(const char *text, size_t n, const struct config *base, const char *listener,
                     struct config_edits *out, struct hat_facts *facts, struct err *err)
{
    struct reading r = {.base = base,
                        .listener = listener,
                        .out = out,
                        .facts = facts,
                        .err = err,
                        .p = text,
                        .end = text + n,
                        .line = 1};
    size_t pos = 0;
    const char *key;
    void *value;
    bool ok = true;

    if (!CONFIG_GET(base, listener, listener))
        return err_set(err, E_NOT_FOUND, "There is no listener \"%s\".", str_printable(listener));
    if (n > HAT_FILE_MAX || memchr(text, '\0', n))
        return err_set(err, E_INVALID, "This is no text of at most %zu bytes.", HAT_FILE_MAX);
    while (ok && find_line(&r))
        ok = read_entry(&r);
    if (ok && !r.n && !facts->policies)
        ok = err_set(err, E_INVALID, "The file has no entry; to remove all entries, use CLEAR.");
    ok = ok && find_policies(&r);
    if (ok) {
        put_edits(&r);
        ok = check_all(&r);
    }
    if (ok)
        add_remarks(&r);
    while (map_next(&r.policies, &pos, &key, &value)) {
        struct row *row = value;

        row_free(&row);
    }
    for (size_t i = 0; i < r.n; i++)
        row_free(&r.groups[i].row);
    map_free(&r.policies);
    map_free(&r.policy_lines);
    map_free(&r.group_names);
    map_free(&r.hosts);
    strlist_free(&r.kinds);
    free(r.groups);
    return ok;
}
