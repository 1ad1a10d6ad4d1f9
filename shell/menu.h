/* menu.h - the "Choose the operation you want to perform" loop; in batch the next word picks the operation. */
#ifndef POSTERN_MENU_H
#define POSTERN_MENU_H

#include "shell/session.h"

struct menu_op {
    const char *name;  /* "NEW" */
    const char *help;  /* "Create a new listener." */
    const char *group; /* fields of this group of the row's section are asked in turn when run is NULL */
    void (*run)(struct ui *ui, struct session *s, struct row *row);
    bool (*applies)(struct session *s, const struct row *row); /* NULL: always */
};
struct menu {
    void (*summary)(struct ui *ui, struct session *s, const struct row *row); /* before the choices; NULL: none */
    const struct menu_op *ops;
    size_t n;
    const struct section *section; /* what dialog_new, dialog_delete... are about; NULL: the command's own section */
};
/* An empty answer goes up one level. A savepoint is taken before each operation; one that was aborted or failed is undone,
 * one that finished is flushed. Unique prefixes of operation words are accepted, any case; ".." goes up, "?" explains.
 * With words on the line one operation is run, without summary. Summaries print with ui_say. */
void run_menu(struct ui *ui, struct session *s, const struct menu *m, struct row *row);

#endif
