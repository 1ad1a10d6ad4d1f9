/* test_fiber_ucontext.c - the tests of test_fiber.c over ucontext. The fiber code is compiled into this
 * program with that switch; the linker then has no use for the daemon's own. */
#define POSTERN_UCONTEXT
#include "daemon/fiber_ucontext.c"
#include "daemon/fiber.c"
#include "tests/unit/test_fiber.c"
