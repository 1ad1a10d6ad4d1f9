/* hostaccess.c - listenerconfig > EDIT > HOSTACCESS: the defaults, the mail flow policies and the
 * sender groups. */
#include "cmds/listener.h"

#include <stdlib.h>
#include <string.h>

/* --- the table ------------------------------------------------------------------------------ */

static void say_table(struct ui *ui, struct session *s, const struct row *l)
{
    say_policy_parameters(ui, l);
    ui_say(ui, "\nThere are currently %zu policies defined.",
           session_count(s, &section_mail_policy, l->name));
    ui_say(ui, "There are currently %zu sender groups.",
           session_count(s, &section_sender_group, l->name));
}

static const char *rule_word(int behavior)
{
    static const char *const words[] = {"ACCEPT", "RELAY", "REJECT", "TCPREFUSE", "CONTINUE"};

    return words[behavior];
}

static bool print_policy(void *arg, const struct row *r)
{
    struct ui *ui = arg;
    const struct mail_policy *p = r->data;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"max_message_size",     p->max_message_size    },
        {"max_concurrency",      p->max_concurrency     },
        {"max_msgs_per_session", p->max_msgs_per_session},
        {"max_rcpts_per_msg",    p->max_rcpts_per_msg   },
        {"max_rcpts_per_hour",   p->max_rcpts_per_hour  },
    };
    bool open = false;

    out_line(ui, "$%s", p->name);
    for (size_t i = 0; i < countof(numbers); i++)
        open |= numbers[i].value != 0;
    open |= p->tls != POLICY_TLS_DEFAULT;
    out_line(ui, "    %s%s", rule_word(p->behavior), open ? " {" : "");
    for (size_t i = 0; i < countof(numbers); i++)
        if (numbers[i].value)
            out_line(ui, "        %s = %llu", numbers[i].name,
                     (unsigned long long)numbers[i].value);
    if (p->tls != POLICY_TLS_DEFAULT)
        out_line(ui, "        tls = \"%s\"", choices_policy_tls_modes[p->tls].word);
    if (open)
        out_line(ui, "    }");
    return !out_stopped(ui);
}

static bool print_group(void *arg, const struct row *r)
{
    struct ui *ui = arg;
    const struct sender_group *g = r->data;

    out_line(ui, "%s:", g->name);
    for (size_t i = 0; i < g->hosts.n; i++)
        out_line(ui, "    %s", g->hosts.items[i]);
    out_line(ui, "        $%s%s%s%s", g->policy, *g->comment ? " (" : "", str_printable(g->comment),
             *g->comment ? ")" : "");
    return !out_stopped(ui);
}

static bool collect(void *arg, const struct row *r)
{
    json_array_append_new(arg, row_to_json(r));
    return true;
}

static void table_print(struct ui *ui, struct session *s, struct row *l)
{
    json_t *data, *policies, *groups;

    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    data = json_object();
    policies = json_array();
    groups = json_array();
    session_each(s, &section_mail_policy, l->name, print_policy, ui);
    session_each(s, &section_sender_group, l->name, print_group, ui);
    out_line(ui, "ALL");
    out_line(ui, "    %s", rule_word(((const struct listener *)l->data)->default_behavior));
    if (out_json(ui)) {
        session_each(s, &section_mail_policy, l->name, collect, policies);
        session_each(s, &section_sender_group, l->name, collect, groups);
    }
    json_put(data, "policies", policies);
    json_put(data, "sender_groups", groups);
    json_put_str(data, "all", row_text(l, "default_behavior"));
    out_data(ui, data);
}

/* --- entries
 * ------------------------------------------------------------------------------------------------
 */

static const struct ui_choice new_kinds[] = {
    {"sendergroup", "New Sender Group"},
    {"policy",      "New Policy"      },
    {NULL,          NULL              }
};
static const struct ui_choice edit_kinds[] = {
    {"sendergroup", "Edit Sender Group"},
    {"policy",      "Edit Policy"      },
    {NULL,          NULL               }
};
static const struct ui_choice delete_kinds[] = {
    {"sendergroup", "Delete Sender Group"},
    {"policy",      "Delete Policy"      },
    {NULL,          NULL                 }
};

static const struct section *ask_kind(struct ui *ui, const struct ui_choice *kinds)
{
    return ask_choice(ui, "kind", "", kinds, 0) ? &section_mail_policy : &section_sender_group;
}

static void ask_policy(struct ui *ui, struct session *s, const char *listener, struct row *group)
{
    AUTO(strlist) struct strlist names = {0};
    struct ui_choice *choices;
    int now = -1, picked;

    session_names(s, &section_mail_policy, listener, &names);
    if (!names.n) {
        ui_fail(ui, E_NOT_FOUND, "Listener %s has no mail flow policy. Create one first with NEW.",
                listener);
        return;
    }
    choices = xcalloc(names.n + 1, sizeof(*choices));
    for (size_t i = 0; i < names.n; i++) {
        choices[i].word = names.items[i];
        choices[i].text = xasprintf("Policy: %s", names.items[i]);
        if (row_is(group, "policy", names.items[i]))
            now = (int)i;
    }
    picked =
        ask_choice(ui, "policy", "Select a behavior for this entry.", choices, now < 0 ? 0 : now);
    if (picked >= 0)
        row_set(group, "policy", names.items[picked], NULL);
    for (size_t i = 0; i < names.n; i++)
        free((char *)choices[i].text);
    free(choices);
}

static const char *const hosts_question =
    "Enter the hosts to add. CIDR addresses such as 10.1.1.0/24 are allowed.  IP address ranges "
    "such as 10.1.1.10-20 are "
    "allowed.  IP subnets such as 10.2.3. are allowed.\n"
    "Hostnames such as crm.example.com are allowed.  Partial hostnames such as .example.com are "
    "allowed.\n"
    "Separate multiple hosts with commas";

/* Adds the answer to the group; what it lists already is dropped silently. */
static void ask_hosts(struct ui *ui, struct row *group)
{
    const struct sender_group *g = group->data;
    AUTO(strlist) struct strlist more = {0}, all = {0};
    AUTO(buf) struct buf text = BUF_INIT(4u << 20);
    struct err err = {0};

    ask_items(ui, &section_sender_group, "hosts", "hosts", hosts_question, g->hosts.n ? "" : NULL,
              &more);
    strlist_copy(&all, &g->hosts);
    for (size_t i = 0; i < more.n; i++)
        if (!strlist_has(&all, more.items[i]))
            strlist_add(&all, more.items[i]);
    strlist_join(&all, ", ", &text);
    if (!row_set(group, "hosts", buf_str(&text), &err))
        ui_error(ui, &err);
}

static bool last_position(void *arg, const struct row *r)
{
    uint64_t *last = arg;
    uint64_t p = ((const struct sender_group *)r->data)->position;

    if (p > *last)
        *last = p;
    return true;
}

static void ask_behavior(struct ui *ui, struct session *s, struct row *policy)
{
    ask_field(ui, s, policy, "behavior");
    if (row_is(policy, "behavior", "accept") || row_is(policy, "behavior", "relay"))
        ask_policy_parameters(ui, s, policy);
    else
        ask_rejection(ui, s, policy);
}

static void table_new(struct ui *ui, struct session *s, struct row *l)
{
    const struct section *sec = ask_kind(ui, new_kinds);
    struct row *r = session_new(s, sec, l->name);
    const char *comment;

    ask_field(ui, s, r, "name");
    if (sec == &section_mail_policy) {
        ask_behavior(ui, s, r);
        return;
    }
    session_each(s, sec, l->name, last_position, &((struct sender_group *)r->data)->position);
    ((struct sender_group *)r->data)->position++;
    ask_hosts(ui, r);
    ask_policy(ui, s, l->name, r);
    comment = ui_option(ui, "--comment");
    if (comment)
        row_set(r, "comment", comment, NULL);
    else
        ask_field(ui, s, r, "comment");
}

static void group_hosts(struct ui *ui, struct session *s, struct row *g)
{
    (void)s;
    ask_hosts(ui, g);
}

static void group_remove(struct ui *ui, struct session *s, struct row *group)
{
    const struct sender_group *g = group->data;
    AUTO(strlist) struct strlist gone = {0}, all = {0};
    AUTO(buf) struct buf text = BUF_INIT(4u << 20);

    (void)s;
    ask_items(ui, &section_sender_group, "hosts", "hosts",
              "Enter the hosts to remove.\nSeparate multiple hosts with commas", NULL, &gone);
    for (size_t i = 0; i < gone.n && !ui_failed(ui); i++)
        if (!strlist_has(&g->hosts, gone.items[i]))
            ui_fail(ui, E_NOT_FOUND,
                    "\"%s\" is not in sender group %s. Use PRINT to see its hosts.",
                    str_printable(gone.items[i]), g->name);
    for (size_t i = 0; i < g->hosts.n; i++)
        if (!strlist_has(&gone, g->hosts.items[i]))
            strlist_add(&all, g->hosts.items[i]);
    strlist_join(&all, ", ", &text);
    row_set(group, "hosts", buf_str(&text), NULL);
}

static void group_policy(struct ui *ui, struct session *s, struct row *g)
{
    char *listener = xstrndup(g->name, strcspn(g->name, "/"));

    ask_policy(ui, s, listener, g);
    free(listener);
}

static void group_comment(struct ui *ui, struct session *s, struct row *g)
{
    ask_field(ui, s, g, "comment");
}

static void group_print(struct ui *ui, struct session *s, struct row *g)
{
    (void)s;
    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    print_group(ui, g);
    out_data(ui, row_to_json(g));
}

static void say_group(struct ui *ui, struct session *s, const struct row *r)
{
    const struct sender_group *g = r->data;

    (void)s;
    ui_say(ui, "Sender group %s: %zu hosts, policy %s", g->name, g->hosts.n, g->policy);
}

static bool has_hosts(struct session *s, const struct row *r)
{
    (void)s;
    return ((const struct sender_group *)r->data)->hosts.n > 0;
}

static const struct menu_op group_ops[] = {
    {"NEW",     "Add hosts to this group.",          NULL, group_hosts,   NULL     },
    {"DELETE",  "Remove hosts from this group.",     NULL, group_remove,  has_hosts},
    {"POLICY",  "Change the policy of this group.",  NULL, group_policy,  NULL     },
    {"COMMENT", "Change the comment of this group.", NULL, group_comment, NULL     },
    {"PRINT",   "Display the hosts of this group.",  NULL, group_print,   NULL     },
};
static const struct menu group_menu = {say_group, group_ops, countof(group_ops),
                                       &section_sender_group};

static void table_edit(struct ui *ui, struct session *s, struct row *l)
{
    const struct section *sec = ask_kind(ui, edit_kinds);
    struct row *r = ask_row(ui, s, sec, l->name, "edit");

    if (r && sec == &section_sender_group) {
        run_menu(ui, s, &group_menu, r);
    } else if (r) {
        ask_behavior(ui, s, r);
    }
}

struct users {
    const char *policy;
    struct buf names;
};

static bool add_user(void *arg, const struct row *r)
{
    struct users *u = arg;

    if (row_is(r, "policy", u->policy))
        buf_printf(&u->names, "%s%s", u->names.n ? ", " : "", row_leaf(r));
    return true;
}

static void table_delete(struct ui *ui, struct session *s, struct row *l)
{
    const struct section *sec = ask_kind(ui, delete_kinds);
    char *name = ask_name(ui, s, sec, l->name, "delete");
    struct users users = {name ? name + strlen(l->name) + 1 : "", BUF_INIT(2000)};

    if (name && sec == &section_mail_policy)
        session_each(s, &section_sender_group, l->name, add_user, &users);
    if (users.names.n)
        ui_fail(ui, E_INVALID, "Policy %s is used by %s. Choose another policy there first.",
                users.policy, buf_str(&users.names));
    else if (name)
        session_delete(s, sec, name);
    buf_free(&users.names);
    free(name);
}

static const char *ask_group_name(struct ui *ui, struct session *s, const char *listener,
                                  const char *key, const char *question, bool end)
{
    const char *name = ask_some(ui, key, question);

    if (ui_failed(ui) || (end && str_eq(name, "0")) ||
        has_name(s, &section_sender_group, listener, name))
        return name;
    ui_fail(ui, E_NOT_FOUND, "Listener %s has no sender group \"%s\". Use PRINT to see them.",
            listener, str_printable(name));
    return name;
}

/* Positions are numbered anew: few rows, and only those whose number changes are staged as changes.
 */
static void table_move(struct ui *ui, struct session *s, struct row *l)
{
    AUTO(strlist) struct strlist names = {0};
    char *moved =
        xstrdup(ask_group_name(ui, s, l->name, "group", "Enter the group to move.", false));
    char *before = xstrdup(ask_group_name(
        ui, s, l->name, "before", "Enter the group to insert before (0 for end of list).", true));
    uint64_t position = 0, mine = 0;

    session_names(s, &section_sender_group, l->name, &names);
    for (size_t i = 0; i <= names.n && !ui_failed(ui); i++) {
        bool here = i == names.n ? !mine : str_eq(names.items[i], before);
        char *full = i < names.n && !str_eq(names.items[i], moved)
                         ? xasprintf("%s/%s", l->name, names.items[i])
                         : NULL;

        if (here)
            mine = ++position;
        if (full) {
            struct row *r = session_edit(s, &section_sender_group, full);

            ((struct sender_group *)r->data)->position = ++position;
        }
        free(full);
    }
    if (mine) {
        char *full = xasprintf("%s/%s", l->name, moved);
        struct row *r = session_edit(s, &section_sender_group, full);

        ((struct sender_group *)r->data)->position = mine;
        free(full);
    }
    free(moved);
    free(before);
}

static bool has_groups(struct session *s, const struct row *l)
{
    return session_count(s, &section_sender_group, l->name) > 0;
}

static bool has_entries(struct session *s, const struct row *l)
{
    return has_groups(s, l) || session_count(s, &section_mail_policy, l->name) > 0;
}

static const struct menu_op table_ops[] = {
    {"NEW",     "Create a new entry.", NULL, table_new,             NULL       },
    {"EDIT",    "Modify an entry.",    NULL, table_edit,            has_entries},
    {"DELETE",  "Remove an entry.",    NULL, table_delete,          has_entries},
    {"MOVE",    "Move an entry.",      NULL, table_move,            has_groups },
    {"DEFAULT", "Set the defaults.",   NULL, ask_policy_parameters, NULL       },
    {"PRINT",   "Display the table.",  NULL, table_print,           NULL       },
};
const struct menu hostaccess_menu = {say_table, table_ops, countof(table_ops), NULL};
