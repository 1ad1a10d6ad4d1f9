/* complete.c - see complete.h. */
#include "shell/complete.h"

#include <stdlib.h>
#include <string.h>

#include "shell/backend.h"
#include "shell/command.h"
#include "store/words.h"

#define NAMES 200 /* so many object names are offered */

struct context {
    struct session *s;
    const struct words *w; /* what stands before */
    const char *partial;
    struct offers all;
};

static const char *word_at(const struct context *c, size_t i)
{
    return i < c->w->n ? c->w->items[i].text : NULL;
}

static void offer_commands(struct context *c)
{
    for (size_t i = 0; i < command_count(); i++) {
        if (command_allowed(command_at(i), c->s))
            offer(&c->all, command_at(i)->name, command_at(i)->help);
    }
}

static void offer_names(struct context *c, const struct section *sec, const char *owner,
                        const char *prefix, const char *before)
{
    struct strlist names = {0};

    session_find(c->s, sec, owner, prefix, NAMES, &names);
    for (size_t i = 0; i < names.n; i++) {
        AUTO(str) char *whole = xasprintf("%s%s", before, names.items[i]);

        offer(&c->all, whole, NULL);
    }
    strlist_free(&names);
}

/* Owner and name in one word, or the names of one owner. */
static void offer_objects(struct context *c, const struct section *sec, const char *owner)
{
    const char *slash = strchr(c->partial, '/');
    AUTO(str) char *typed = slash ? xstrndup(c->partial, (size_t)(slash - c->partial)) : NULL;
    AUTO(str) char *before = slash ? xasprintf("%s/", typed) : NULL;
    struct strlist owners = {0};

    if (!sec->parent || owner) {
        offer_names(c, sec, owner, c->partial, "");
    } else if (slash) {
        offer_names(c, sec, typed, slash + 1, before);
    } else {
        session_find(c->s, section_find(sec->parent), NULL, c->partial, NAMES, &owners);
        for (size_t i = 0; i < owners.n; i++) {
            AUTO(str) char *whole = xasprintf("%s/", owners.items[i]);

            offer(&c->all, whole, NULL);
        }
        strlist_free(&owners);
    }
}

static void offer_value(struct context *c, const struct field *f, const char *key_part)
{
    const struct section *target = f->ref ? section_find(f->ref) : NULL;

    if (f->type == &type_choice) {
        for (const struct choice *ch = f->choices; ch->word; ch++) {
            AUTO(str) char *whole = xasprintf("%s%s", key_part, ch->word);

            offer(&c->all, whole, ch->text);
        }
    } else if (f->type == &type_boolean) {
        AUTO(str) char *yes = xasprintf("%syes", key_part);
        AUTO(str) char *no = xasprintf("%sno", key_part);

        offer(&c->all, yes, NULL);
        offer(&c->all, no, NULL);
    } else if (target) { /* of a list, the item behind the last comma */
        const char *comma = f->type == &type_list ? strrchr(c->partial, ',') : NULL;
        AUTO(str)
        char *before = comma ? xstrndup(c->partial, (size_t)(comma + 1 - c->partial)) : xstrdup(key_part);

        offer_names(c, target, NULL, c->partial + strlen(before), before);
    } else if (f->zero) {
        AUTO(str) char *zero = xasprintf("%s%s", key_part, f->zero);
        AUTO(str) char *top = xasprintf("%s%s", key_part, f->top ? f->top : "");

        offer(&c->all, zero, "stands for 0");
        if (f->top)
            offer(&c->all, top, "stands for the most there can be");
    }
}

static void offer_fields(struct context *c, const struct section *sec)
{
    const char *equals = strchr(c->partial, '=');
    AUTO(str) char *key = equals ? xstrndup(c->partial, (size_t)(equals - c->partial)) : NULL;
    AUTO(str)
    char *key_part = equals ? xstrndup(c->partial, (size_t)(equals + 1 - c->partial)) : NULL;
    const struct field *f = key ? field_find(sec, key) : NULL;

    if (f) {
        offer_value(c, f, key_part);
        return;
    }
    for (size_t i = 0; i < sec->nfields; i++) {
        AUTO(str) char *word = xasprintf("%s=", sec->fields[i].name);

        if (!(sec->fields[i].hidden && str_eq(sec->fields[i].name, "position")))
            offer(&c->all, word, sec->fields[i].label);
    }
}

static const struct {
    const char *word, *text;
    bool name, fields;
} verbs[] = {
    {"new",     "Create; fields not given take their defaults.",           true,  true },
    {"edit",    "Change; fields not given stay as they are.",              true,  true },
    {"set",     "Create or change.",                                       true,  true },
    {"replace", "Create or change; fields not given take their defaults.", true,  true },
    {"delete",  "Remove.",                                                 true,  false},
    {"absent",  "Remove if it is there.",                                  true,  false},
    {"print",   "Show one.",                                               true,  false},
    {"list",    "Show all.",                                               false, false},
};

/* The section path of the line: how many words it takes, and the words of it that would come next.
 */
static bool path_fits(struct context *c, const struct section *sec, size_t *words)
{
    struct strlist parts = {0};
    bool fits = true;
    size_t i;

    strlist_split(&parts, sec->command, ' ');
    for (i = 1; i < parts.n && fits && word_at(c, i); i++)
        fits = str_ieq(parts.items[i], word_at(c, i));
    if (fits && i < parts.n && i == c->w->n)
        offer(&c->all, parts.items[i], i + 1 == parts.n ? sec->plural : NULL);
    fits = fits && i == parts.n && c->w->n >= parts.n;
    *words = parts.n;
    strlist_free(&parts);
    return fits;
}

/* Another word behind "edit NAME" belongs to the menus, or names the objects of an owner. */
static bool only_settings(const struct context *c, size_t from)
{
    for (size_t i = from; i < c->w->n; i++) {
        if (!c->w->items[i].key && !c->w->items[i].flag)
            return false;
    }
    return true;
}

static void offer_section(struct context *c, const struct section *sec, size_t at)
{
    const char *verb = word_at(c, at);

    if (sec->single) {
        offer_fields(c, sec);
        if (!verb)
            offer(&c->all, "print", "Show the settings.");
        return;
    }
    for (size_t i = 0; i < countof(verbs); i++) {
        if (!verb)
            offer(&c->all, verbs[i].word, verbs[i].text);
        else if (str_ieq(verb, verbs[i].word) && c->w->n == at + 1 && verbs[i].name)
            offer_objects(c, sec, NULL);
        else if (str_ieq(verb, verbs[i].word) && c->w->n > at + 1 && verbs[i].fields &&
                 only_settings(c, at + 2))
            offer_fields(c, sec);
    }
}

static bool has_name(const char *verb, bool *fields)
{
    for (size_t i = 0; i < countof(verbs); i++) {
        *fields = verbs[i].fields;
        if (str_ieq(verb, verbs[i].word))
            return verbs[i].name;
    }
    *fields = false;
    return false;
}

/* "listenerconfig edit OWNER hostaccess VERB policy NAME FIELD=VALUE": what comes next of it. */
static void offer_within(struct context *c, const struct section *sec, const struct strlist *path)
{
    size_t owner = word_at(c, 1) && str_ieq(word_at(c, 1), "edit") ? 2 : 1, at = owner + 2;
    bool fields, names;

    if (c->w->n == owner + 1)
        offer(&c->all, path->items[1], NULL);
    if (c->w->n < at || !str_ieq(word_at(c, owner + 1), path->items[1]))
        return;
    for (size_t i = 0; i < countof(verbs) && c->w->n == at; i++)
        offer(&c->all, verbs[i].word, verbs[i].text);
    if (c->w->n == at)
        return;
    names = has_name(word_at(c, at), &fields);
    if (path->n > 2 && c->w->n == at + 1)
        offer(&c->all, path->items[2], sec->plural);
    if (path->n > 2 && (c->w->n == at + 1 || !str_ieq(word_at(c, at + 1), path->items[2])))
        return;
    at += path->n > 2 ? 2 : 1;
    if (c->w->n == at && names)
        offer_objects(c, sec, word_at(c, owner));
    else if (c->w->n > at && fields)
        offer_fields(c, sec);
}

static bool was_offered(const struct offers *o, const char *word)
{
    for (size_t i = 0; i < o->n; i++) {
        if (str_ieq(o->items[i].word, word))
            return true;
    }
    return false;
}

static void offer_operations(struct context *c, const struct command *cmd)
{
    for (size_t i = 0; cmd->menu && c->w->n == 1 && i < cmd->menu->n; i++) {
        AUTO(str) char *word = xstrdup(cmd->menu->ops[i].name);

        str_lower(word);
        if (!was_offered(&c->all, word))
            offer(&c->all, word, cmd->menu->ops[i].help);
    }
}

static void offer_arguments(struct context *c, const struct command *cmd)
{
    const struct section *sec, *best = NULL;
    struct strlist before = {0};
    size_t words, longest = 0;

    for (size_t i = 0; (sec = command_section(cmd, i)) != NULL; i++) {
        struct strlist path = {0};

        if (path_fits(c, sec, &words) && words >= longest) {
            best = sec;
            longest = words;
        }
        strlist_split(&path, sec->command, ' ');
        if (sec->parent && path.n > 1)
            offer_within(c, sec, &path);
        strlist_free(&path);
    }
    offer_operations(c, cmd);
    if (best)
        offer_section(c, best, longest);
    if (cmd->complete) {
        for (size_t i = 1; i < c->w->n; i++)
            strlist_add(&before, c->w->items[i].text);
        cmd->complete(c->s, &before, &c->all);
        strlist_free(&before);
    }
}

void complete_line(struct session *s, const char *text, size_t n, struct completion *out)
{
    struct words_end e;
    struct context c = {.s = s};
    const struct command *cmd;

    *out = (struct completion){.offers = xcalloc(1, sizeof(struct offers))};
    words_end_of(text, n, &e);
    out->quoted = e.quoted || e.comment;
    out->start = e.start;
    c.w = &e.before;
    c.partial = e.partial;
    if (e.comment) {
        words_end_free(&e);
        return;
    }
    cmd = e.before.n ? command_find(e.before.items[0].text) : NULL;
    if (!e.before.n)
        offer_commands(&c);
    else if (cmd && command_allowed(cmd, s))
        offer_arguments(&c, cmd);
    out->usage = cmd && command_allowed(cmd, s) ? cmd->usage : NULL;
    out->commands = !e.before.n;
    for (size_t i = 0; i < c.all.n; i++) {
        if (str_istarts(c.all.items[i].word, e.partial) &&
            !was_offered(out->offers, c.all.items[i].word))
            offer(out->offers, c.all.items[i].word, c.all.items[i].text);
    }
    offers_free(&c.all);
    words_end_free(&e);
}

void complete_free(struct completion *c)
{
    if (c->offers)
        offers_free(c->offers);
    free(c->offers);
    *c = (struct completion){0};
}
