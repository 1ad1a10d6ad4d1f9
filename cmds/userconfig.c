/* userconfig.c - who may use the console, and for what. */
#include "cmds/common.h"

#include <stdlib.h>

struct listing {
    struct ui *ui;
    unsigned n;
};

static bool say_user(void *arg, const struct row *r)
{
    const struct user *u = r->data;
    struct listing *p = arg;

    ui_say(p->ui, "%u. %s - \"%s\" (%s)", ++p->n, u->name, str_printable(u->full_name),
           choices_roles[u->role].word);
    return true;
}

static void say_users(struct ui *ui, struct session *s, const struct row *unused)
{
    struct listing p = {.ui = ui};

    (void)unused;
    ui_say(ui, "Users:");
    session_each(s, &section_user, NULL, say_user, &p);
}

static void ask_user(struct ui *ui, struct row *r)
{
    static const struct ui_choice roles[] = {
        {"administrator",
         "Administrators - Administrators have full access to all settings of the system."       },
        {"operator",      "Operators - Operators are restricted from creating new user accounts."},
        {"readonly",      "Read-Only Operators - Read-Only operators may only view settings and status "
         "information."                                                                             },
        {"guest",               "Guests - Guest users may only view status information."  },
        {NULL,               NULL                                                                                }
    };
    const struct user *u = r->data;
    char *full_name = xasprintf("Enter the full name for %s.", u->name),
         *role = xasprintf("Assign a role to \"%s\":", u->name);
    char *now = xstrdup(u->full_name);
    struct err err = {0};

    if (!row_set(r, "full_name", ask_text(ui, "full_name", full_name, now), &err))
        ui_error(ui, &err);
    row_set(r, "role", roles[ask_choice(ui, "role", role, roles, u->role)].word, NULL);
    free(full_name);
    free(role);
    free(now);
}

static void user_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_new(s, &section_user, NULL);

    (void)unused;
    ask_field(ui, s, r, "name");
    if (!ui_failed(ui))
        ask_user(ui, r);
}

static void user_edit(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = ask_row(ui, s, &section_user, NULL, "edit");

    (void)unused;
    if (r)
        ask_user(ui, r);
}

static bool count_admin(void *arg, const struct row *r)
{
    *(unsigned *)arg += ((const struct user *)r->data)->role == USER_ADMIN;
    return true;
}

static void user_delete(struct ui *ui, struct session *s, struct row *unused)
{
    char *name = ask_name(ui, s, &section_user, NULL, "delete");
    struct row *r = name ? session_get(s, &section_user, name) : NULL;
    unsigned admins = 0;

    (void)unused;
    session_each(s, &section_user, NULL, count_admin, &admins);
    if (r && ((const struct user *)r->data)->role == USER_ADMIN && admins == 1)
        ui_fail(ui, E_INVALID,
                "%s is the only administrator. Make somebody else administrator first.", name);
    else if (name)
        session_delete(s, &section_user, name);
    row_free(&r);
    free(name);
}

static const struct menu_op main_ops[] = {
    {"NEW",    "Create a new account.", NULL, user_new,    NULL      },
    {"EDIT",   "Modify an account.",    NULL, user_edit,   dialog_any},
    {"DELETE", "Remove an account.",    NULL, user_delete, dialog_any},
};
static const struct menu main_menu = {say_users, main_ops, countof(main_ops), &section_user};

const struct command cmd_userconfig = {
    .name = "userconfig",
    .help = "Manage user accounts and their roles",
    .detail = "A user is an account of the system that logs in to the console; the role decides "
              "which commands there are. "
              "Passphrases and keys are those of the system account.",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_user,
    .menu = &main_menu,
};
