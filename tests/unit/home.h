/* home.h - a home directory with an open configuration database, for tests of what needs one. */
#ifndef POSTERN_TESTS_HOME_H
#define POSTERN_TESTS_HOME_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/db.h"
#include "store/secret.h"

struct home {
    char dir[64];
    sqlite3 *db;
};

static inline int home_make(void **state)
{
    struct home *h = calloc(1, sizeof(*h));
    struct err err;

    snprintf(h->dir, sizeof(h->dir), "/tmp/postern-unit.XXXXXX");
    if (!mkdtemp(h->dir) || !secret_init(h->dir, &err) || !db_open(h->dir, &h->db, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    *state = h;
    return 0;
}

static inline void home_reopen(struct home *h)
{
    struct err err;

    sqlite3_close(h->db);
    if (!db_open(h->dir, &h->db, &err))
        fprintf(stderr, "%s\n", err.text);
}

static inline int home_drop(void **state)
{
    struct home *h = *state;
    DIR *d = opendir(h->dir);
    struct dirent *e;
    char path[400];

    sqlite3_close(h->db);
    while (d && (e = readdir(d))) {
        snprintf(path, sizeof(path), "%s/%s", h->dir, e->d_name);
        unlink(path);
    }
    closedir(d);
    rmdir(h->dir);
    free(h);
    return 0;
}

/* Do these bytes stand anywhere in the file? */
static inline int home_contains(const struct home *h, const char *file, const char *text)
{
    char path[200], *all = NULL;
    size_t n = 0;
    int found;
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", h->dir, file);
    f = fopen(path, "rb");
    while (f && !feof(f)) {
        all = realloc(all, n + 65536);
        n += fread(all + n, 1, 65536, f);
    }
    if (f)
        fclose(f);
    found = all && memmem(all, n, text, strlen(text));
    free(all);
    return found;
}

#endif
