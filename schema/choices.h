/* choices.h - the enums and tables of choices.def: enum tls_modes { TLS_OFF, ... } and choices_tls_modes[], whose
 * order is the number in the structs. */
#ifndef POSTERN_CHOICES_H
#define POSTERN_CHOICES_H

#define CHOICE(number, word, text) number,
#define CHOICES(table, ...) enum table { __VA_ARGS__ };
#include "schema/choices.def"
#undef CHOICES
#define CHOICES(table, ...) extern const struct choice choices_##table[];
#include "schema/choices.def"
#undef CHOICES
#undef CHOICE

#endif
