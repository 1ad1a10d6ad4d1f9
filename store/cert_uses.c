/* cert_uses.c - see cert_uses.h. */
#include "store/cert_uses.h"

#include <stdlib.h>

static char *service_of(const struct row *r)
{
    char *title, *service;

    if (r->section == &section_listener)
        return xasprintf("%s (listener)", r->name);
    if (r->section == &section_destination_setup)
        return xstrdup("Outbound SMTP (delivery)");
    title = row_title(r->section, r->name);
    service = xasprintf("%s", title);
    free(title);
    return service;
}

static void tell(const struct row *r, const char *profile, bool further,
                 void (*fn)(void *arg, const struct cert_use *use), void *arg)
{
    char *service = service_of(r);
    bool client = r->section == &section_destination_setup;

    if (*profile)
        fn(arg, &(struct cert_use){profile, service, !client, client, further});
    free(service);
}

void cert_uses(const struct config *cfg, void (*fn)(void *arg, const struct cert_use *use),
               void *arg)
{
    for (size_t i = 0; i < section_count(); i++) {
        const struct section *s = section_at(i);

        for (size_t k = 0; k < s->nfields; k++) {
            const struct field *f = &s->fields[k];

            if (!f->ref || !str_eq(f->ref, "certificate"))
                continue;
            for (size_t j = 0; j < config_count(cfg, s); j++) {
                const struct row *r = config_at(cfg, s, j);
                const struct strlist *list = row_slot(r, f);

                if (f->type != &type_list)
                    tell(r, *(char **)row_slot(r, f), false, fn, arg);
                for (size_t m = 0; f->type == &type_list && m < list->n; m++)
                    tell(r, list->items[m], true, fn, arg);
            }
        }
    }
}

struct about {
    const char *profile;
    struct x509_subject *out;
    bool first; /* shown to those who ask for no name, or for this gateway's */
};

static void note_use(void *arg, const struct cert_use *use)
{
    struct about *a = arg;

    if (str_eq(use->profile, a->profile)) {
        a->out->server |= use->server;
        a->out->client |= use->client;
        a->first |= use->server && !use->further;
    }
}

void cert_subject(const struct config *cfg, const struct row *profile, usec_t now,
                  struct strlist *hosts, struct x509_subject *out)
{
    const struct certificate *c = profile->data;
    const struct system *system = CONFIG_SINGLE(cfg, system);
    struct about about = {profile->name, out, false};

    *out = (struct x509_subject){.certificate = c->certificate,
                                 .intermediates = c->intermediates,
                                 .hosts = hosts,
                                 .demo = c->demo,
                                 .now = now};
    cert_uses(cfg, note_use, &about);
    if (about.first && system)
        strlist_add(hosts, system->hostname);
}
