/* failpoint.h - places where tests kill the engine: armed with "NAME" the process dies by SIGKILL when it passes that
 * place, with "NAME:3" at the third passing. Not armed, a place costs one comparison. */
#ifndef POSTERN_FAILPOINT_H
#define POSTERN_FAILPOINT_H

void failpoint_arm(const char *spec); /* before threads; engine.c arms what POSTERN_FAILPOINT says. NULL: none */
void failpoint(const char *name);

#endif
