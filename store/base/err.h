/* err.h - how a failure travels: a code for decisions, a sentence for people.
 *
 * A call that can fail returns bool (or a pointer) and takes a struct err * last. The text grows from the
 * inside out (err_wrap puts "doing what: " in front) and is logged once, by whoever decides. A struct err
 * needs no clean-up; err may be NULL where the caller does not care. */
#ifndef POSTERN_ERR_H
#define POSTERN_ERR_H

#include <stdbool.h>

enum err_code {
    E_NONE,
    E_USAGE,     /* syntax of a command, a line, a file */
    E_INVALID,   /* a value or a combination of values is refused */
    E_DENIED,    /* the caller may not */
    E_CONFLICT,  /* somebody else changed the same thing */
    E_BUSY,      /* locked, pending, try later */
    E_NOT_FOUND, /* no such object */
    E_EXISTS,    /* an object of that name exists */
    E_IO,        /* file system, database */
    E_TIMEOUT,   /* no answer in time */
    E_CLOSED,    /* the peer went away, or the daemon is stopping */
    E_NET,       /* connect, reset, unreachable */
    E_PROTOCOL,  /* the peer broke its protocol */
    E_DNS,       /* temporary DNS failure */
    E_NO_MAIL,   /* null MX (RFC 7505), no such domain */
    E_TLS,       /* handshake or verification */
    E_LIMIT,     /* too long, too many */
};

struct err {
    enum err_code code;
    char text[480];
};

/* Sets the error; returns false, so that "return err_set(...)" reads well. */
bool err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "FORMATTED: " in front of the text that is there; keeps the code; returns false. */
bool err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* As err_set with ": " and the text of errno value e appended; E_IO. */
bool err_errno(struct err *err, int e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__ /* so that it knows what they return */
#define err_set(...) (err_set(__VA_ARGS__), false)
#define err_wrap(...) (err_wrap(__VA_ARGS__), false)
#define err_errno(...) (err_errno(__VA_ARGS__), false)
#endif

/* Name for JSON: "E_NOT_FOUND". */
const char *err_code_name(enum err_code code);

/* Exit code of a command that failed this way (0, 1-9, 11; see postern(1)). */
int err_exit_code(enum err_code code);

#endif
