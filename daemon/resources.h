/* resources.h - looks at the disks once a minute, so that administrators hear of a full one before senders do. */
#ifndef POSTERN_RESOURCES_H
#define POSTERN_RESOURCES_H

#include "store/base/err.h"

bool resources_start(struct err *err); /* until the fibers are stopped */

#endif
