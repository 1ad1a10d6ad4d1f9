/* batch.c - a file of statements as one transaction. */
#include "shell/batch.h"

const struct command cmd_batch = {
    .name = "batch",
    .help = "Run statements from standard input as one transaction",
    .usage = "batch [--commit] [--comment TEXT] [--dry-run] [--replace] < FILE",
    .detail =
        "Reads a statement a line. Any error drops everything and names the line. With --commit "
        "the changes are committed together, with --dry-run they are checked as a commit would, "
        "else they are shown and dropped.\n"
        "With --replace the file is the whole configuration: what it does not mention is deleted.",
    .roles = ROLE_OPERATOR,
    .run = batch_run,
};
