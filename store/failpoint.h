/* failpoint.h - places where tests kill the engine. POSTERN_FAILPOINT=NAME in the environment makes the process die by
 * SIGKILL when it passes that place, NAME:3 at the third passing; without it the call is one comparison. */
#ifndef POSTERN_FAILPOINT_H
#define POSTERN_FAILPOINT_H

void failpoint(const char *name);

#endif
