/* schema.h - the table of all settings, made from schema/SECTION.def; everything else walks it.
 *
 * schema/sections.def lists the sections; each schema/<section>.def is expanded twice: into struct <section> (config.h), so the
 * daemon writes l->max_rcpts, and into the descriptor table (schema.c). Adding a setting is one FIELD line.
 * Constant data; any thread. */
#ifndef POSTERN_SCHEMA_H
#define POSTERN_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"

struct config;
struct field;
struct row;
struct check;
struct type;

struct choice {
    const char *word; /* stored form and batch word: "required" */
    const char *text; /* in menus: "Required" */
};

#include "schema/choices.h" /* an enum and a table for each kind of choice */

enum { /* what must be rebuilt when a field changes; passed to the parts of reload.c */
    RELOAD_NOTHING = 0,
    RELOAD_SOCKETS = 1 << 0,
    RELOAD_TLS = 1 << 1,
    RELOAD_ACCESS = 1 << 2,
    RELOAD_QUEUE = 1 << 3,
    RELOAD_LOGS = 1 << 4,
    RELOAD_DNS = 1 << 5,
    RELOAD_LDAP = 1 << 6,
};

struct field {
    const char *name;
    const struct type *type;
    size_t offset;            /* in the section's struct */
    const char *deflt;        /* text form; NULL: empty, 0, no, first choice */
    const char *label;        /* in summaries and reference pages: "Maximum Message Size" */
    const char *prompt;       /* the question, without "[default]> " */
    const char *help;         /* what "?" says */
    const char *group;        /* menu operation it is asked under: "LIMITS" */
    const struct choice *choices; /* ends with {NULL} */
    uint64_t min, max;        /* numbers: range (max 0: no limit); text and list items: length */
    const char *alias;        /* another name that is accepted where this one is */
    const char *zero;         /* a word that stands for 0: "default", "unlimited" */
    const char *top;          /* a word that stands for max: "unlimited" */
    const char *ref;          /* section whose object this names; checked at prompt and commit */
    bool key;                 /* part of the object's name */
    bool required;            /* may not be empty */
    bool secret;              /* sealed in the store, masked wherever it is printed */
    bool hidden;              /* not asked or shown field by field (certificates' PEM) */
    unsigned reload;
    bool (*check)(const struct field *f, const char *text, struct err *err); /* one value */
};

struct section {
    const char *name;         /* class in the store and JSON: "listener" */
    const char *command;      /* console command that edits it: "listenerconfig" */
    const char *noun;         /* in sentences: "listener" */
    const char *plural;
    const char *parent;       /* section of the owner; the object's name is then "OWNER/NAME" */
    bool single;              /* exactly one object; its name is "-" */
    bool ordered;             /* has a hidden uint field "position"; lists are shown in that order */
    bool own_lists;           /* its command lists and prints the objects in its own way: "list", "print", "detail" are its words */
    const char *lead;         /* single sections: the field whose value stands bare behind the command, or NULL */
    const struct field *fields;
    size_t nfields;
    size_t size;              /* sizeof(struct <section>) */
    /* rules over several fields or objects; adds any number of errors and warnings. NULL: none */
    void (*check)(const struct config *cfg, const struct row *row, struct check *out);
};

/* section_listener, section_destination, ... */
#define SECTION(name, ...) extern const struct section section_##name;
#include "schema/sections.def"
#undef SECTION

#define SECTION(name, ...) SECTION_OF_##name,
enum {
#include "schema/sections.def"
    SECTIONS /* how many there are */
};
#undef SECTION

const struct section *section_find(const char *name);        /* by class name; NULL: none */
size_t section_count(void);
const struct section *section_at(size_t i);                  /* in the order of export: referenced before referring */
unsigned section_index(const struct section *s);
const struct field *field_find(const struct section *s, const char *name);

const struct field *section_key(const struct section *s);    /* the key field; NULL for single sections */

#define SCHEMA_VERSION 2 /* of the bodies in the store; a change comes with a migration in store/db.c */

#endif
