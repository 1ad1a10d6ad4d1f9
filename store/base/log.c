/* log.c - see log.h. */
#include "store/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static void to_stderr(enum log_level level, const char *text)
{
    fprintf(stderr, "%s: %s\n", log_level_name(level), text);
}

static _Atomic(log_sink) current_sink = to_stderr;
static atomic_int current_level = LOG_INFO;

void log_set_sink(log_sink sink)
{
    atomic_store(&current_sink, sink ? sink : to_stderr);
}

void log_set_level(enum log_level level)
{
    atomic_store(&current_level, (int)level);
}

__attribute__((format(printf, 2, 0))) static void emit(enum log_level level, const char *fmt,
                                                       va_list ap)
{
    char text[2048];

    if ((int)level > atomic_load_explicit(&current_level, memory_order_relaxed))
        return;
    vsnprintf(text, sizeof(text), fmt, ap);
    atomic_load(&current_sink)(level, text);
}

#define DEFINE(name, level)                                                                        \
    void name(const char *fmt, ...)                                                                \
    {                                                                                              \
        va_list ap;                                                                                \
                                                                                                   \
        va_start(ap, fmt);                                                                         \
        emit(level, fmt, ap);                                                                      \
        va_end(ap);                                                                                \
    }

DEFINE(log_critical, LOG_CRITICAL)
DEFINE(log_warning, LOG_WARNING)
DEFINE(log_info, LOG_INFO)
DEFINE(log_debug, LOG_DEBUG)

const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {"Critical", "Warning", "Info", "Debug", "Trace"};

    return (unsigned)level < sizeof(names) / sizeof(names[0]) ? names[level] : "Info";
}
