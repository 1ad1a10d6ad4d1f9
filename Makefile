# Postern. "make run" starts it, "make check" tests it; see README.md.
B ?= build
CC ?= gcc
PKGS = libssl libcrypto sqlite3 libedit libcurl libunbound jansson zlib libidn2 libseccomp
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla \
       -Wframe-larger-than=4096
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong $(WARN) -I. \
             -fno-omit-frame-pointer -MMD -MP $(CFLAGS)
LIBS := -lssl -lcrypto -lsqlite3 -ledit -lcurl -lunbound -ljansson -lz -lidn2 -lseccomp -lldap -llber -lpthread

STORE := $(wildcard store/base/*.c store/*.c)
SHELL_C := $(wildcard shell/*.c cmds/*.c)
DAEMON := $(wildcard daemon/*.c daemon/*.S)
UNITS := $(wildcard tests/unit/test_*.c)
obj = $(addprefix $(B)/,$(addsuffix .o,$(basename $(1))))

all: $(if $(wildcard daemon/main.c),$(B)/posternd) $(if $(wildcard shell/main.c),$(B)/postern) units
units: $(patsubst %.c,$(B)/%,$(UNITS))

$(B)/store.a: $(call obj,$(STORE))
$(B)/shell.a: $(call obj,$(filter-out shell/main.c,$(SHELL_C)))
$(B)/daemon.a: $(call obj,$(filter-out daemon/main.c,$(DAEMON)))
$(B)/%.a:
	@rm -f $@; ar rcs $@ $^
$(B)/posternd: $(B)/daemon/main.o $(B)/daemon.a $(B)/store.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/postern: $(B)/shell/main.o $(B)/shell.a $(B)/store.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/shell.a $(B)/daemon.a $(B)/store.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<
$(B)/%.o: %.S
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

-include $(shell find $(B) -name '*.d' 2>/dev/null)
.PHONY: all units
.SECONDARY:
