/* embed.h - a file of the tree as a constant of the program: EMBED(config_sql, "schema/config.sql"); The path is from the
 * root of the tree, where make runs. The Makefile lists such files, because the compiler does not see them. */
#ifndef POSTERN_EMBED_H
#define POSTERN_EMBED_H

#define EMBED(name, path)                                                                          \
    __asm__(".pushsection .rodata\n.balign 8\n" #name ":\n.incbin \"" path                        \
            "\"\n.byte 0\n.popsection\n");                                                         \
    extern const char name[] __attribute__((visibility("hidden")))

#endif
