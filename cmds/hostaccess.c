/* hostaccess.c - listenerconfig > EDIT > HOSTACCESS: the defaults, the mail flow policies and the
 * sender groups. The line ALL at the end of the table is the listener's own rule, or the group "ALL". */
#include "cmds/listener.h"

#include <stdlib.h>
#include <string.h>

#include "store/hat_file.h"
#include "store/rules.h"

/* --- the table ------------------------------------------------------------------------------ */

static size_t count_groups(struct session *s, const struct row *l)
{
    return session_count(s, &section_sender_group, l->name) -
           has_name(s, &section_sender_group, l->name, "ALL");
}

static void say_table(struct ui *ui, struct session *s, const struct row *l)
{
    say_policy_parameters(ui, l);
    ui_say(ui, "\nThere are currently %zu policies defined.",
           session_count(s, &section_mail_policy, l->name));
    ui_say(ui, "There are currently %zu sender groups.", count_groups(s, l));
}

static bool print_policy(void *arg, const struct row *r)
{
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);

    hat_file_policy(r->data, &text);
    out_text(arg, buf_str(&text));
    return !out_stopped(arg);
}

static bool print_group(void *arg, const struct row *r)
{
    AUTO(buf) struct buf text = BUF_INIT(HAT_FILE_MAX);

    hat_file_group(r->data, &text);
    out_text(arg, buf_str(&text));
    return !out_stopped(arg);
}

static bool print_unless_all(void *arg, const struct row *r)
{
    return str_eq(row_leaf(r), "ALL") || print_group(arg, r);
}

static bool collect(void *arg, const struct row *r)
{
    json_array_append_new(arg, row_to_json(r));
    return true;
}

/* The end of the table: the group "ALL", or what the listener says. */
static void print_all(struct ui *ui, struct session *s, const struct row *l)
{
    AUTO(buf) struct buf text = BUF_INIT(100);
    char *name = xasprintf("%s/ALL", l->name);
    struct row *all = session_get(s, &section_sender_group, name);

    if (all) {
        print_group(ui, all);
    } else {
        hat_file_all(l->data, &text);
        out_text(ui, buf_str(&text));
    }
    row_free(&all);
    free(name);
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
    session_each(s, &section_sender_group, l->name, print_unless_all, ui);
    print_all(ui, s, l);
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

struct naming { /* which policy says a rule and nothing else */
    int behavior;
    const struct row *fresh;
    char *name;
};

static bool find_plain(void *arg, const struct row *r)
{
    struct naming *n = arg;
    struct row *trial = row_copy(n->fresh);

    row_set(trial, "name", row_leaf(r), NULL);
    ((struct mail_policy *)trial->data)->behavior = n->behavior;
    if (row_equal(trial, r))
        n->name = xstrdup(row_leaf(r));
    row_free(&trial);
    return !n->name;
}

/* A new policy of this behavior, under a name that is free. */
static struct row *new_policy(struct session *s, const char *listener, const char *wanted,
                              int behavior)
{
    struct row *policy;
    char *name = xstrndup(wanted, 29);

    for (unsigned i = 2; has_name(s, &section_mail_policy, listener, name); i++) {
        free(name);
        name = xasprintf("%.*s_%u", 26, wanted, i);
    }
    policy = session_new(s, &section_mail_policy, listener);
    row_set(policy, "name", name, NULL);
    ((struct mail_policy *)policy->data)->behavior = behavior;
    free(name);
    return policy;
}

/* The policy that says this rule, made if there is none; the caller frees its name. */
static char *plain_policy(struct session *s, const char *listener, int behavior)
{
    char *owner = xasprintf("%s/", listener);
    struct row *fresh = row_new(&section_mail_policy, owner);
    struct naming n = {.behavior = behavior, .fresh = fresh};

    session_each(s, &section_mail_policy, listener, find_plain, &n);
    row_free(&fresh);
    free(owner);
    if (!n.name)
        n.name = xstrdup(row_leaf(new_policy(s, listener, hat_rule_policy(behavior), behavior)));
    return n.name;
}

/* "Reject --cust_rej ...", as other systems' lines say instead of a policy. False: the next word is none of that. */
static bool take_rule(struct ui *ui, struct session *s, const char *listener, struct row *group)
{
    const char *word = ui_peek(ui, 0);
    int behavior = word ? hat_behavior(word) : -1;
    char *name;

    if (behavior < 0 || has_name(s, &section_mail_policy, listener, word))
        return false;
    ui_word(ui);
    if (ui_has_flags(ui)) {
        struct row *policy = new_policy(s, listener, row_leaf(group), behavior);

        ask_policy_parameters(ui, s, policy);
        name = xstrdup(row_leaf(policy));
    } else {
        name = plain_policy(s, listener, behavior);
    }
    row_set(group, "policy", name, NULL);
    free(name);
    return true;
}

static void ask_policy(struct ui *ui, struct session *s, const char *listener, struct row *group)
{
    AUTO(strlist) struct strlist names = {0};
    const char *word = ui_peek(ui, 0);
    struct ui_choice *choices;
    int now = -1, picked;
    size_t n = 1;
    char *name;

    if (word && *word == '$' && has_name(s, &section_mail_policy, listener, word + 1)) {
        row_set(group, "policy", ui_word(ui) + 1, NULL);
        return;
    }
    if (take_rule(ui, s, listener, group))
        return;
    session_names(s, &section_mail_policy, listener, &names);
    choices = xcalloc(names.n + 2, sizeof(*choices));
    choices[0] = (struct ui_choice){"Continue", NULL};
    now = row_is(group, "policy", "CONTINUE") ? 0 : -1;
    for (size_t i = 0; i < names.n; i++) {
        if (str_eq(names.items[i], "CONTINUE"))
            continue;
        choices[n].word = names.items[i];
        choices[n].text = xasprintf("Policy: %s", names.items[i]);
        if (row_is(group, "policy", names.items[i]))
            now = (int)n;
        n++;
    }
    picked = ask_choice(ui, "policy", "Select a behavior for this entry.", choices, now < 0 ? 0 : now);
    if (!ui_failed(ui)) {
        name = picked ? xstrdup(choices[picked].word) : plain_policy(s, listener, BEHAVIOR_CONTINUE);
        row_set(group, "policy", name, NULL);
        free(name);
    }
    for (size_t i = 1; i < n; i++)
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

/* The items of both, each once, in their order. */
static void join_lists(const struct strlist *first, const struct strlist *second, struct strlist *out)
{
    const struct strlist *both[] = {first, second};
    struct map seen = {0};

    for (size_t k = 0; k < 2; k++)
        for (size_t i = 0; i < both[k]->n; i++) {
            if (map_get(&seen, both[k]->items[i]))
                continue;
            map_set(&seen, both[k]->items[i], out);
            strlist_add(out, both[k]->items[i]);
        }
    map_free(&seen);
}

static void set_hosts(struct ui *ui, struct row *group, const struct strlist *hosts)
{
    AUTO(buf) struct buf text = BUF_INIT(HAT_FILE_MAX);
    struct err err = {0};

    strlist_join(hosts, ", ", &text);
    if (!ui_failed(ui) && !row_set(group, "hosts", buf_str(&text), &err))
        ui_error(ui, &err);
}

/* Adds the answer to the group; what it lists already is dropped silently. */
static void ask_hosts(struct ui *ui, struct row *group)
{
    const struct sender_group *g = group->data;
    AUTO(strlist) struct strlist more = {0}, all = {0};

    ask_items(ui, &section_sender_group, "hosts", "hosts", hosts_question, g->hosts.n ? "" : NULL,
              &more);
    join_lists(&g->hosts, &more, &all);
    set_hosts(ui, group, &all);
}

/* Of all but the group "ALL", which stays last. */
static bool last_position(void *arg, const struct row *r)
{
    uint64_t *last = arg;
    uint64_t p = ((const struct sender_group *)r->data)->position;

    if (p > *last && !str_eq(row_leaf(r), "ALL"))
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

static void new_group(struct ui *ui, struct session *s, const struct row *l)
{
    struct row *r = session_new(s, &section_sender_group, l->name);
    struct sender_group *g = r->data;
    const char *given = ui_option(ui, "--comment");
    AUTO(str) char *comment = given ? xstrdup(given) : NULL;
    struct err err = {0};

    ask_field(ui, s, r, "name");
    g->position = 0;
    session_each(s, &section_sender_group, l->name, last_position, &g->position);
    g->position = str_eq(row_leaf(r), "ALL") ? HAT_LAST : g->position + 1;
    ask_hosts(ui, r);
    ask_policy(ui, s, l->name, r);
    if (!comment)
        ask_field(ui, s, r, "comment");
    else if (!row_set(r, "comment", comment, &err))
        ui_error(ui, &err);
}

static void table_new(struct ui *ui, struct session *s, struct row *l)
{
    const struct section *sec = ask_kind(ui, new_kinds);
    struct row *r;

    if (sec == &section_sender_group) {
        new_group(ui, s, l);
        return;
    }
    r = session_new(s, sec, l->name);
    ask_field(ui, s, r, "name");
    ask_behavior(ui, s, r);
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
    struct map there = {0}, going = {0};

    (void)s;
    ask_items(ui, &section_sender_group, "hosts", "hosts",
              "Enter the hosts to remove.\nSeparate multiple hosts with commas", NULL, &gone);
    for (size_t i = 0; i < g->hosts.n; i++)
        map_set(&there, g->hosts.items[i], &all);
    for (size_t i = 0; i < gone.n && !ui_failed(ui); i++) {
        if (!map_get(&there, gone.items[i]))
            ui_fail(ui, E_NOT_FOUND,
                    "\"%s\" is not in sender group %s. Use PRINT to see its hosts.",
                    str_printable(gone.items[i]), g->name);
        map_set(&going, gone.items[i], &all);
    }
    for (size_t i = 0; i < g->hosts.n; i++)
        if (!map_get(&going, g->hosts.items[i]))
            strlist_add(&all, g->hosts.items[i]);
    map_free(&there);
    map_free(&going);
    set_hosts(ui, group, &all);
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

/* "edit sendergroup NAME HOST,HOST": the hosts it shall have, where an operation could stand. */
static bool says_hosts(const struct ui *ui)
{
    const char *word = ui_peek(ui, 0);

    for (size_t i = 0; word && i < countof(group_ops); i++)
        if (str_istarts(group_ops[i].name, word))
            return false;
    return word && strpbrk(word, ".:");
}

static void table_edit(struct ui *ui, struct session *s, struct row *l)
{
    const struct section *sec = ask_kind(ui, edit_kinds);
    struct row *r = ask_row(ui, s, sec, l->name, "edit");

    if (r && sec == &section_sender_group && says_hosts(ui)) {
        AUTO(strlist) struct strlist hosts = {0};

        ask_items(ui, &section_sender_group, "hosts", "hosts", hosts_question, NULL, &hosts);
        set_hosts(ui, r, &hosts);
    } else if (r && sec == &section_sender_group) {
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
    if (names.n && str_eq(names.items[names.n - 1], "ALL"))
        free(names.items[--names.n]); /* stays last */
    if (str_eq(moved, "ALL") || str_eq(before, "ALL"))
        ui_fail(ui, E_INVALID, "ALL matches every sender and stays last; use 0 for the end of the list.");
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

static void table_import(struct ui *ui, struct session *s, struct row *l)
{
    listener_import(ui, s, l, "hat");
}

static void table_export(struct ui *ui, struct session *s, struct row *l)
{
    listener_export(ui, s, l, "hat");
}

static void table_reset(struct ui *ui, struct session *s, struct row *l)
{
    listener_reset(ui, s, l);
}

static void table_clear(struct ui *ui, struct session *s, struct row *l)
{
    listener_clear(ui, s, l, "hat");
}

static bool accept_address(void *arg, const char *answer, struct err *err)
{
    (void)arg;
    return check_ip(NULL, answer, err);
}

/* Which entry a host would meet. In a line its name may follow; a person's is looked up. */
static void table_test(struct ui *ui, struct session *s, struct row *l)
{
    static const struct out_column lines[] = {
        {"Sender group",  "group",    0, false},
        {"Matching entry", "entry",    0, false},
        {"Policy",        "policy",   0, false},
        {"Behavior",      "behavior", 0, false},
        {"Reverse DNS",   "reverse",  0, false}
    };
    const struct ui_question q = {.text = "Enter the IP address of the host to test.",
                                  .key = "address",
                                  .accept = accept_address};
    json_t *args = json_object(), *data;
    const char *host;

    json_put_str(args, "listener", l->name);
    json_put_str(args, "table", "hat");
    json_put_str(args, "address", ui_ask(ui, &q));
    host = ui_key(ui, "host");
    host = host ? host : ui_word(ui);
    if (host)
        json_put_str(args, "host", host);
    if (ui_failed(ui) || !ui_end_of_words(ui)) {
        json_decref(args);
        return;
    }
    data = session_call(s, ui, "access.find", args);
    if (!data)
        return;
    if (!*json_str(data, "policy", ""))
        json_put_str(data, "policy", "none; the default policy parameters count");
    out_record(ui, lines, countof(lines) - (json_object_get(data, "reverse") ? 0 : 1), data);
}

static const struct menu_op table_ops[] = {
    {"NEW",     "Create a new entry.",                                NULL, table_new,             NULL       },
    {"EDIT",    "Modify an entry.",                                   NULL, table_edit,            has_entries},
    {"DELETE",  "Remove an entry.",                                   NULL, table_delete,          has_entries},
    {"MOVE",    "Move an entry.",                                     NULL, table_move,            has_groups },
    {"DEFAULT", "Set the defaults.",                                  NULL, ask_policy_parameters, NULL       },
    {"PRINT",   "Display the table.",                                 NULL, table_print,           NULL       },
    {"IMPORT",  "Import a table from a file.",                        NULL, table_import,          NULL       },
    {"EXPORT",  "Export the table to a file.",                        NULL, table_export,          NULL       },
    {"RESET",   "Remove senders and set policies to system default.", NULL, table_reset,           NULL       },
    {"CLEAR",   "Remove all entries.",                                NULL, table_clear,           has_entries},
    {"TEST",    "Show which entry a host would meet.",                NULL, table_test,            NULL       },
};
const struct menu hostaccess_menu = {say_table, table_ops, countof(table_ops), NULL};
