/* certtlsa.c - certconfig > certificate > tlsa: the DNS records for a profile, ready for a zone
 * file. */
#include "cmds/certtlsa.h"

#include <stdlib.h>

#include "cmds/common.h"

static void say_published(struct ui *ui, const json_t *p)
{
    static const struct {
        const char *state, *text;
    } texts[] = {
        {"matches", "The DNS serves records for it, and all of them match this profile."     },
        {"partly",  "The DNS serves records that match this profile, and others that do not:"},
        {"differs", "None of the records in the DNS matches this profile. Peers that use DANE "
         "would not deliver:"                                                                          },
        {"missing",         "There are no records in the DNS."},
        {"failed",         "The DNS could not be asked:"                                                                           },
    };
    const char *state = json_str(p, "state", "");
    json_t *r;
    size_t i;

    for (i = 0; i < countof(texts); i++)
        if (str_eq(state, texts[i].state))
            out_line(ui, "; %s", texts[i].text);
    if (str_eq(state, "failed"))
        out_line(ui, ";   %s", str_printable(json_str(p, "reason", "")));
    json_array_foreach(json_object_get(p, "records"), i, r)
    {
        if (json_bool_of(r, "matches", false))
            continue;
        out_line(ui, ";   %s%s%s", str_printable(json_str(r, "text", "")),
                 json_object_get(r, "unusable") ? ": " : "", json_str(r, "unusable", ""));
    }
    if (json_array_size(json_object_get(p, "records")) && !json_bool_of(p, "secure", false))
        out_line(ui, "; The answer is insecure: the zone is not signed with DNSSEC, so peers will "
                     "not use it.");
}

static void say_records(struct ui *ui, const json_t *data)
{
    json_t *p, *r, *host;
    size_t i, k;

    json_array_foreach(json_object_get(data, "published"), i, p)
    {
        if (i)
            out_line(ui, "%s", "");
        out_line(ui, "; %s", json_str(p, "name", ""));
        say_published(ui, p);
        json_array_foreach(json_object_get(data, "records"), k, r)
        {
            if (!str_eq(json_str(r, "name", ""), json_str(p, "name", "")))
                continue;
            out_line(ui, "%s ; %s", json_str(r, "text", ""), json_str(r, "about", ""));
        }
    }
    json_array_foreach(json_object_get(data, "other_hosts"), i, host)
        out_line(ui,
                 "%s; MX host %s is not named in the certificate; its records are those of its own "
                 "certificate.",
                 i ? "" : "\n", str_printable(json_string_value(host)));
}

void certificate_tlsa(struct ui *ui, struct session *s, struct row *unused)
{
    char *name;
    json_t *args, *data;

    (void)unused;
    name = ask_name(ui, s, &section_certificate, NULL, "publish");
    if (name && ui_end_of_words(ui)) {
        args = json_object();
        json_put_str(args, "name", name);
        data = session_call(s, ui, "cert.tlsa", args);
        if (data) {
            say_records(ui, data);
            out_data(ui, data);
        }
    }
    free(name);
}
