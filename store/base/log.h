/* log.h - messages for the operators of the process (system_logs), not the mail log. Any thread; never
 * blocks on a full disk, never fails. Text from the network is escaped by the caller with str_printable. */
#ifndef POSTERN_LOG_H
#define POSTERN_LOG_H

enum log_level { LOG_CRITICAL, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Where lines go; the default writes to stderr. The daemon installs its log files here. */
typedef void (*log_sink)(enum log_level level, const char *text);
void log_set_sink(log_sink sink);
void log_set_level(enum log_level level);

void log_critical(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

const char *log_level_name(enum log_level level); /* "Critical", "Warning", "Info", "Debug", "Trace" */

#endif
