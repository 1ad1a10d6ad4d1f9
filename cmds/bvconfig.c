/* bvconfig.c - bounce verification: the keys that tag envelope senders, and what is done with bounces to other addresses. */
#include "cmds/common.h"

#include <stdlib.h>
#include <string.h>

struct keys {
    const struct row *newest;
    struct row *copies[10];
    size_t n;
};

static bool collect(void *arg, const struct row *r)
{
    struct keys *k = arg;
    struct row *copy = row_copy(r);

    if (k->n == countof(k->copies)) {
        row_free(&copy);
        return false;
    }
    k->copies[k->n++] = copy;
    if (!k->newest ||
        ((const struct bv_key *)copy->data)->created >= ((const struct bv_key *)k->newest->data)->created)
        k->newest = copy;
    return true;
}

static void keys_free(struct keys *k)
{
    for (size_t i = 0; i < k->n; i++)
        row_free(&k->copies[i]);
}

static void say_key(struct ui *ui, const struct row *r)
{
    const struct bv_key *k = r->data;
    char date[40];

    ui_say(ui, "    %s  (assigned %s)", k->name, clock_commit_date((usec_t)k->created * 1000000, date));
}

static void say_keys(struct ui *ui, struct session *s, const struct row *unused)
{
    struct row *setup = session_get(s, &section_bv_setup, "-");
    struct keys keys = {0};

    (void)unused;
    if (setup)
        ui_say(ui, "Behavior on invalid bounces: %s",
               row_is(setup, "invalid", "reject") ? "reject" : "add a custom header and deliver");
    row_free(&setup);
    session_each(s, &section_bv_key, NULL, collect, &keys);
    ui_say(ui, "\nKey for tagging outgoing mail:%s", keys.newest ? "" : " none; bounces are not looked at");
    if (keys.newest)
        say_key(ui, keys.newest);
    if (keys.n > 1)
        ui_say(ui, "\nPreviously-used keys for verifying incoming mail:");
    for (size_t i = 0; i < keys.n; i++)
        if (keys.copies[i] != keys.newest)
            say_key(ui, keys.copies[i]);
    keys_free(&keys);
}

/* The new key takes the lowest number that is free, or that of the oldest key. */
static void key_new(struct ui *ui, struct session *s, struct row *unused)
{
    struct keys keys = {0};
    char number[2] = "0";
    const char *oldest = NULL;
    uint64_t age = UINT64_MAX;
    struct row *r;

    (void)unused;
    session_each(s, &section_bv_key, NULL, collect, &keys);
    for (size_t i = 0; i < keys.n; i++) {
        const struct bv_key *k = keys.copies[i]->data;

        if (k->created < age) {
            age = k->created;
            oldest = k->name;
        }
        if (str_eq(k->name, number)) /* they come in order */
            number[0]++;
    }
    if (keys.n == countof(keys.copies))
        number[0] = *oldest;
    r = keys.n == countof(keys.copies) ? session_edit(s, &section_bv_key, number)
                                       : session_new(s, &section_bv_key, NULL);
    keys_free(&keys);
    if (!r)
        return;
    row_set(r, "name", number, NULL);
    ask_field(ui, s, r, "key");
    ((struct bv_key *)r->data)->created = (uint64_t)(clock_wall() / 1000000);
    ui_say(ui, "Key %s tags outgoing mail once this is committed. Tags of earlier keys stay good for a week.", number);
}

static void forget(struct ui *ui, struct session *s, bool newest_too)
{
    struct keys keys = {0};
    size_t n = 0;

    session_each(s, &section_bv_key, NULL, collect, &keys);
    for (size_t i = 0; i < keys.n; i++) {
        if (keys.copies[i] == keys.newest && !newest_too)
            continue;
        session_delete(s, &section_bv_key, keys.copies[i]->name);
        n++;
    }
    keys_free(&keys);
    ui_say(ui, "%zu key%s removed.", n, n == 1 ? "" : "s");
}

static void key_purge(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    if (ask_confirm(ui, "confirm", "Bounces of mail that earlier keys tagged will be refused. Are you sure?", false))
        forget(ui, s, false);
}

static void key_clear(struct ui *ui, struct session *s, struct row *unused)
{
    (void)unused;
    if (ask_confirm(ui, "confirm", "Are you sure you want to remove all keys? Nothing will be tagged or refused.", false))
        forget(ui, s, true);
}

static void setup(struct ui *ui, struct session *s, struct row *unused)
{
    struct row *r = session_edit(s, &section_bv_setup, "-");

    (void)unused;
    if (!r)
        return;
    ask_field(ui, s, r, "invalid");
    if (row_is(r, "invalid", "header"))
        ask_field(ui, s, r, "header");
}

static bool any_key(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_bv_key, NULL) > 0;
}

static bool earlier_keys(struct session *s, const struct row *unused)
{
    (void)unused;
    return session_count(s, &section_bv_key, NULL) > 1;
}

static const struct menu_op main_ops[] = {
    {"KEY",   "Assign a new tagging key for outgoing mail.",                  NULL, key_new,   NULL        },
    {"PURGE", "Purge keys no longer needed for verifying incoming mail.",     NULL, key_purge, earlier_keys},
    {"CLEAR", "Clear all keys including current key.",                        NULL, key_clear, any_key     },
    {"SETUP", "Set how invalid bounces will be handled.",                     NULL, setup,     NULL        },
};
static const struct menu main_menu = {say_keys, main_ops, countof(main_ops), &section_bv_key};

const struct command cmd_bvconfig = {
    .name = "bvconfig",
    .help = "Configure bounce verification",
    .detail = "Tags the envelope senders of mail that this gateway relays to destinations whose entry says so "
              "(destconfig, bounce_verification), and refuses bounces to addresses that carry no valid tag: they answer "
              "messages somebody else sent in your name. It begins with the first key. Mail flow policies may accept "
              "untagged bounces all the same (untagged_bounces).",
    .usage = "bvconfig key key=-\n"
             "bvconfig purge --yes\n"
             "bvconfig clear --yes\n"
             "bvconfig setup invalid=reject|header [header=\"NAME: VALUE\"]",
    .roles = ROLE_ADMIN,
    .commits = true,
    .section = &section_bv_key,
    .menu = &main_menu,
};
