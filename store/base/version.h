/* version.h - the version both programs, the log files and the control socket show. */
#ifndef POSTERN_VERSION_H
#define POSTERN_VERSION_H

#define POSTERN_VERSION "0.1.0"

#endif
