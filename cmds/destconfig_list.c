/* destconfig_list.c - what destconfig prints: one line for each entry, or everything about one. */
#include "cmds/destconfig.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NUMBERED 40 /* so many entries are shown as a numbered list to choose from */
#define NARROWEST 12 /* columns of the domain on a terminal that has no room */
#define BEHIND 68 /* columns behind the domain */

static const char *tls_word(const struct destination *d)
{
    static const char *const words[] = {
        [DEST_TLS_DEFAULT] = "Default",
        [DEST_TLS_NONE] = "Off",
        [DEST_TLS_PREFERRED] = "Pref",
        [DEST_TLS_REQUIRED] = "Req",
        [DEST_TLS_PREFERRED_VERIFY] = "Pref (Verify)",
        [DEST_TLS_REQUIRED_VERIFY] = "Req (Verify)",
        [DEST_TLS_REQUIRED_HOSTED] = "Req (Hosted)",
    };

    return words[d->use_tls];
}

/* The default entry inherits nothing: what it does not say is off. */
static const char *word_of(const struct destination *d, int value, const char *const words[])
{
    return words[!value && destination_is_default(d) ? 1 : value];
}

static const char *dane_word(const struct destination *d)
{
    static const char *const words[] = {"Default", "Off", "Opp", "Mand"};

    return word_of(d, d->dane, words);
}

static const char *switch_word(const struct destination *d, int value)
{
    static const char *const words[] = {"Default", "Off", "On"};

    return word_of(d, value, words);
}

static const char *rate_word(const struct destination *d)
{
    return d->concurrency_limit || d->recipient_limit || d->max_messages_per_connection ? "On"
                                                                                        : "Default";
}

static const char *profile_word(const struct destination *d)
{
    if (!str_eq(d->bounce_profile, "default"))
        return d->bounce_profile;
    return destination_is_default(d) ? "(Default)" : "Default";
}

struct listing {
    struct ui *ui;
    json_t *entries;
    int width;
    struct row *last; /* the default entry, which comes after the others */
};

/* Every entry, the default one behind the others. */
static void each_entry(struct session *s, struct listing *p,
                       bool (*fn)(void *arg, const struct row *r))
{
    session_each(s, &section_destination, NULL, fn, p);
    if (p->last && !out_stopped(p->ui))
        fn(p, p->last);
    row_free(&p->last);
}

/* The default entry in its place of the alphabet is put by. */
static bool is_put_by(struct listing *p, const struct row *r)
{
    if (p->last || !destination_is_default(r->data))
        return false;
    p->last = row_copy(r);
    return true;
}

static void line(struct ui *ui, int width, const char *domain, const char *const cells[6])
{
    out_line(ui, "%-*.*s  %-8s  %-13s  %-7s  %-7s  %-12s  %s", width, width, domain, cells[0],
             cells[1], cells[2], cells[3], cells[4], cells[5]);
}

static bool list_one(void *arg, const struct row *r)
{
    struct listing *p = arg;
    const struct destination *d = r->data;

    if (is_put_by(p, r))
        return true;
    line(p->ui, p->width, destination_is_default(d) ? "(Default)" : d->domain,
         (const char *[]){rate_word(d), tls_word(d), dane_word(d), switch_word(d, d->mta_sts),
                          switch_word(d, d->bounce_verification), profile_word(d)});
    json_array_append_new(p->entries, row_to_json(r));
    return !out_stopped(p->ui);
}

static void heading(struct ui *ui, int width)
{
    static const char bars[] =
        "================================================================================";

    line(ui, width, "", (const char *[]){"Rate", "", "", "", "Bounce", "Bounce"});
    line(ui, width, "Domain",
         (const char *[]){"Limiting", "TLS", "DANE", "MTA-STS", "Verification", "Profile"});
    out_line(ui, "%.*s  ========  =============  =======  =======  ============  =========",
             width < 80 ? width : 80, bars);
}

void destination_list(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};
    struct listing p = {.ui = ui, .width = (int)sizeof("(Default)") - 1};
    int room = (int)ui_width(ui) - BEHIND;
    json_t *data;

    (void)unused;
    if (!ui_end_of_words(ui)) /* before anything is printed */
        return;
    p.entries = json_array();
    data = json_object();
    session_names(s, &section_destination, NULL, &names);
    for (size_t i = 0; i < names.n; i++)
        p.width = (int)strlen(names.items[i]) > p.width ? (int)strlen(names.items[i]) : p.width;
    if (ui_width(ui) && p.width > room)
        p.width = room > NARROWEST ? room : NARROWEST;
    heading(ui, p.width);
    each_entry(s, &p, list_one);
    json_put(data, "entries", p.entries);
    out_data(ui, data);
}

/* --- detail */

static void print_rates(struct ui *ui, const struct destination *d)
{
    if (!d->concurrency_limit && !d->recipient_limit) {
        out_line(ui, "Rate Limiting: Default");
        return;
    }
    out_line(ui, "Rate Limiting:");
    if (d->concurrency_limit)
        out_line(ui, "%llu concurrent connections", (unsigned long long)d->concurrency_limit);
    else
        out_line(ui, "Default concurrent connections");
    if (d->recipient_limit)
        out_line(ui, "%llu recipients per %llu minutes", (unsigned long long)d->recipient_limit,
                 (unsigned long long)d->recipient_minutes);
    else
        out_line(ui, "No recipient limit");
    out_line(ui, "Limits applied to %s, across all virtual gateways",
             d->limit_type == LIMIT_MXIP ? "each mail exchanger IP address" : "entire domain");
}

static const char *text_of(const struct destination *d, int value, const struct choice *table)
{
    return table[!value && destination_is_default(d) ? 1 : value].text;
}

static void print_detail(struct listing *p, const struct row *r)
{
    const struct destination *d = r->data;

    if (json_array_size(p->entries))
        out_line(p->ui, "%s", "");
    out_line(p->ui, "%s", destination_is_default(d) ? "(Default)" : d->domain);
    out_line(p->ui, "IP Version: %s", choices_ip_preferences[d->ip_sort_pref].text);
    if (d->max_messages_per_connection)
        out_line(p->ui, "Maximum messages per connection: %llu",
                 (unsigned long long)d->max_messages_per_connection);
    else
        out_line(p->ui, "Maximum messages per connection: Default");
    print_rates(p->ui, d);
    out_line(p->ui, "TLS: %s", choices_dest_tls_levels[d->use_tls].text);
    out_line(p->ui, "DANE: %s",
             d->dane == DANE_OFF || (!d->dane && destination_is_default(d))
                 ? "None"
                 : choices_dane_modes[d->dane].text);
    out_line(p->ui, "MTA STS: %s", text_of(d, d->mta_sts, choices_sts_modes));
    out_line(p->ui, "Bounce Verification Tagging: %s",
             text_of(d, d->bounce_verification, choices_switches));
    out_line(p->ui, "Bounce Profile: %s",
             str_eq(d->bounce_profile, "default") ? "Default" : d->bounce_profile);
    json_array_append_new(p->entries, row_to_json(r));
}

static bool detail_one(void *arg, const struct row *r)
{
    struct listing *p = arg;

    if (!is_put_by(p, r))
        print_detail(p, r);
    return !out_stopped(p->ui);
}

void offer_destinations(void *arg, const char *typed, struct offers *out)
{
    AUTO(strlist) struct strlist names = {0};

    session_find(arg, &section_destination, NULL, typed, 100, &names);
    for (size_t i = 0; i < names.n; i++)
        offer(out, names.items[i], NULL);
}

static void offer_details(void *arg, const char *typed, struct offers *out)
{
    offer_destinations(arg, typed, out);
    offer(out, "all", "every entry");
}

/* "1. partner.com  2. (Default)  3. (All)", when they are not too many. */
static char *detail_question(struct session *s, struct strlist *names)
{
    AUTO(buf) struct buf text = BUF_INIT(64u << 10);
    AUTO(strlist) struct strlist all = {0};

    buf_str_add(&text, "Select a domain to display its details");
    if (session_count(s, &section_destination, NULL) > NUMBERED) {
        buf_str_add(&text, " (\"default\" and \"all\" are allowed):");
        return buf_take(&text);
    }
    buf_char(&text, ':');
    session_names(s, &section_destination, NULL, &all);
    for (size_t i = 0; i < all.n; i++)
        if (!str_eq(all.items[i], "default"))
            strlist_add(names, all.items[i]);
    strlist_add(names, "(Default)");
    strlist_add(names, "(All)");
    for (size_t i = 0; i < names->n; i++)
        buf_printf(&text, "\n%zu. %s", i + 1, names->items[i]);
    return buf_take(&text);
}

static char *name_meant(const char *answer, const struct strlist *names)
{
    char *end;
    unsigned long n = isdigit((unsigned char)*answer) ? strtoul(answer, &end, 10) : 0;

    if (n >= 1 && n <= names->n && !*end)
        answer = names->items[n - 1];
    if (str_ieq(answer, "(default)"))
        answer = "default";
    else if (str_ieq(answer, "(all)") || str_ieq(answer, "all"))
        return xstrdup("all");
    return row_canonical(&section_destination, answer);
}

void destination_detail(struct ui *ui, struct session *s, struct row *unused)
{
    AUTO(strlist) struct strlist names = {0};
    AUTO(str) char *question = detail_question(s, &names);
    const struct ui_question q = {
        .text = question, .key = "domain", .offer = offer_details, .arg = s};
    struct listing p = {.ui = ui, .entries = json_array()};
    AUTO(str) char *name = name_meant(ui_ask(ui, &q), &names);
    struct row *r = NULL;
    json_t *data;

    (void)unused;
    ui_end_of_words(ui); /* before anything is printed */
    if (!ui_failed(ui) && str_eq(name, "all")) {
        each_entry(s, &p, detail_one);
    } else if (!ui_failed(ui) && (r = session_get(s, &section_destination, name))) {
        print_detail(&p, r);
    } else if (!ui_failed(ui)) {
        ui_fail(ui, E_NOT_FOUND, "There is no entry for \"%s\". Use LIST to see the entries.",
                str_printable(name));
    }
    row_free(&r);
    data = json_object();
    json_put(data, "entries", p.entries);
    out_data(ui, data);
}
