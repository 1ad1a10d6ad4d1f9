# Postern. "make run" starts it, "make check" tests it; see README.md.

MAKEFLAGS += --no-builtin-rules
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
V ?=
Q := $(if $(V),,@)
say = @$(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),:,printf '  %-5s %s\n' $(1) $@)
B ?= build
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla
CFLAGS ?= -O2 -g
# A sanitizer makes frames larger and replaces what fortification calls.
ifeq ($(SANITIZE),)
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -Wframe-larger-than=4096
LINK := -Wl,-z,relro,-z,now $(LDFLAGS)
else
HARDEN := -fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined -DPOSTERN_SANITIZED=1
LINK := -fsanitize=$(SANITIZE) $(LDFLAGS)
endif
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE -I. -fno-omit-frame-pointer -pthread $(WARN) $(HARDEN) \
              $(if $(WERROR),-Werror) $(CFLAGS)
LIBS := -lssl -lcrypto -lsqlite3 -ledit -lcurl -lunbound -ljansson -lz -lidn2 -lpcre2-8 -lseccomp -lldap \
        -llber -lgsasl -largon2 -lcrypt -lpthread -lm

STORE := $(wildcard store/base/*.c store/*.c)
SHELL_C := $(wildcard shell/*.c cmds/*.c)
DAEMON := $(wildcard daemon/*.c daemon/*.S)
UNITS := $(wildcard tests/unit/test_*.c)
BENCH := $(filter-out tests/bench/count.c,$(wildcard tests/bench/*.c))
FUZZ := $(wildcard tests/fuzz/fuzz_*.c)
SOURCES := $(filter %.c,$(STORE) $(SHELL_C) $(DAEMON) $(UNITS) $(BENCH) $(FUZZ))
obj = $(addprefix $(B)/,$(addsuffix .o,$(basename $(1))))
PROGRAMS := $(if $(wildcard daemon/main.c),$(B)/posternd) $(if $(wildcard shell/main.c),$(B)/postern)

# --- building ------------------------------------------------------------------------------------

all: programs $(if $(wildcard /usr/include/cmocka.h),units)
programs: $(B)/views $(B)/tls-policy.md $(B)/store.a $(B)/shell.a $(B)/daemon.a $(PROGRAMS) $(if $(SANITIZE),,$(B)/reference)
units: $(patsubst %.c,$(B)/%,$(UNITS))
tests: all units $(patsubst %.c,$(B)/%,$(BENCH)) $(B)/tests/fault/faultfs.so $(B)/tests/bench/count.so $(B)/one_line/posternd $(B)/one_line/postern

# Rewritten only when it changes: what depends on it is rebuilt when flags or the list of files change.
stamp = @mkdir -p $(@D); printf '%s\n' '$(1)' | cmp -s - $@ || printf '%s\n' '$(1)' >$@
$(B)/.flags: FORCE
	$(call stamp,$(CC) $(ALL_CFLAGS) $(LINK) $(LIBS))
$(B)/.files: FORCE
	$(call stamp,$(STORE) $(SHELL_C) $(DAEMON))

# Says which packages are missing before the compiler does.
$(B)/.packages: tools/packages tools/need
	@mkdir -p $(@D)
	@tools/need --check build
	@touch $@

$(B)/store.a: $(call obj,$(STORE))
$(B)/shell.a: $(call obj,$(filter-out shell/main.c,$(SHELL_C)))
$(B)/daemon.a: $(call obj,$(filter-out daemon/main.c,$(DAEMON)))
$(B)/%.a: $(B)/.files
	@rm -f $@
	$(call say,AR)
	$(Q)$(AR) rcs $@ $(filter %.o,$^)
LINKING = $(Q)$(CC) $(CFLAGS) $(LINK) -o $@ $(filter %.o %.a,$^)
$(B)/posternd: $(B)/daemon/main.o $(B)/daemon.a $(B)/store.a
	$(call say,LINK)
	$(LINKING) $(LIBS)
$(B)/postern: $(B)/shell/main.o $(B)/shell.a $(B)/store.a
	$(call say,LINK)
	$(LINKING) $(LIBS)
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/shell.a $(B)/daemon.a $(B)/store.a
	$(call say,LINK)
	$(LINKING) -lcmocka $(LIBS)
NEEDS_OURS := bench_store bench_fiber bench_ldap bench_attempt bench_crl bench_queue_fill bench_access
$(addprefix $(B)/tests/bench/,$(NEEDS_OURS)): $(B)/daemon.a $(B)/store.a
$(B)/tests/bench/%: $(B)/tests/bench/%.o
	$(call say,LINK)
	$(LINKING) $(if $(filter %.a,$^),$(LIBS),-lssl -lcrypto -lpthread)
# Preloaded into posternd by tests/lab/faults.py; without a sanitizer, whatever the programs have.
$(B)/tests/fault/faultfs.so: tests/fault/faultfs.c
$(B)/tests/bench/count.so: tests/bench/count.c
$(B)/tests/fault/faultfs.so $(B)/tests/bench/count.so:
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) -std=gnu17 -D_GNU_SOURCE -U_FORTIFY_SOURCE $(WARN) -O1 -g -fPIC -fvisibility=hidden -shared -o $@ $< -ldl
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/shell.a $(B)/daemon.a $(B)/store.a
	$(call say,LINK)
	$(LINKING) -fsanitize=fuzzer $(LIBS)
# Both programs with one more line in schema/listener.def: tests/lab/test_one_line.py shows what that line does.
$(B)/one_line/schema/listener.def: schema/listener.def tests/lab/one_line.def
	@mkdir -p $(@D)
	@cat $^ >$@
$(B)/one_line/schema.o: store/schema.c $(B)/one_line/schema/listener.def $(B)/store/schema.o
	$(call say,CC)
	$(Q)$(CC) -I$(B)/one_line $(ALL_CFLAGS) -c -o $@ $<
$(B)/one_line/posternd: $(B)/daemon/main.o $(B)/one_line/schema.o $(B)/daemon.a $(B)/store.a
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LINK) -o $@ $^ $(LIBS)
$(B)/one_line/postern: $(B)/shell/main.o $(B)/one_line/schema.o $(B)/shell.a $(B)/store.a
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LINK) -o $@ $^ $(LIBS)
$(B)/tools/schemagen: $(B)/tools/schemagen.o $(B)/store.a
	$(call say,LINK)
	$(LINKING) $(LIBS)
$(B)/tools/tls_policy_doc: $(B)/tools/tls_policy_doc.o $(B)/daemon/tls_policy.o $(B)/store.a
	$(call say,LINK)
	$(LINKING) $(LIBS)
$(B)/tls-policy.md: $(B)/tools/tls_policy_doc
	@$< >$@
	@cmp -s $@ doc/tls-policy.md || { echo '  GEN   doc/tls-policy.md'; cp $@ doc/tls-policy.md; }
$(B)/views: $(B)/tools/schemagen
	@$< >$@
	@cmp -s $@ schema/views.sql || { echo '  GEN   schema/views.sql'; cp $@ schema/views.sql; }
# The reference pages: what differs is copied to doc/reference.
$(B)/reference: $(B)/postern
	@rm -rf $@
	@$(B)/postern --reference $@
	@diff -rq $@ doc/reference >/dev/null 2>&1 || { echo '  GEN   doc/reference'; \
	    rm -rf doc/reference && mkdir -p doc && cp -r $@ doc/reference; }
	@touch $@
$(B)/%.o: %.c $(B)/.flags | $(B)/.packages
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/store/db.o: schema/config.sql schema/audit.sql # EMBED: the compiler does not see them
$(B)/daemon/queue_start.o: schema/queue.sql
$(B)/daemon/state.o: schema/state.sql
$(B)/%.o: %.S $(B)/.flags | $(B)/.packages
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
-include $(shell find $(B) -path $(B)/peers -prune -o -name '*.d' -print 2>/dev/null)

# What README.md says about the targets.
help:
	@sed -n 's/^    \(make [a-z]*\)  *# /| `\1` | /; /^| `/{s/[`]//g; s/^| //; s/ |$$//; s/ | /\n    /p}' README.md

# --- trying --------------------------------------------------------------------------------------

run:
	@tools/need build
	@$(MAKE) --no-print-directory programs
	@tools/home start $(B) var
stop:
	@tools/home stop $(B) var

# --- testing -------------------------------------------------------------------------------------

check:
	@tools/need build test
	@$(MAKE) --no-print-directory tests
	@BUILD=$(B) $(PYTHON) tests/run

asan:
	@tools/need build test
	@$(MAKE) --no-print-directory tests B=build-asan SANITIZE=address,undefined CFLAGS='-O1 -g'
	@BUILD=build-asan $(PYTHON) tests/run
tsan:
	@tools/need build test
	@$(MAKE) --no-print-directory tests B=build-tsan SANITIZE=thread CFLAGS='-O1 -g'
	@BUILD=build-tsan $(PYTHON) tests/run

SECONDS ?= 20
fuzz:
	@tools/need build lint
	@$(MAKE) --no-print-directory fuzzers B=build-fuzz CC=clang \
	    SANITIZE=fuzzer-no-link,address,undefined CFLAGS='-O1 -g'
	@tools/fuzz build-fuzz $(SECONDS)
fuzzers: $(patsubst %.c,$(B)/%,$(FUZZ))

# Kills, power cuts and failing disks under load for so many seconds; then every place where one call can fail.
soak:
	@tools/need build test
	@$(MAKE) --no-print-directory tests
	@SOAK_SECONDS=$(SECONDS) BUILD=$(B) $(PYTHON) tests/lab/test_soak.py
	@FULL=1 BUILD=$(B) $(PYTHON) tests/lab/test_faults.py

# PAGE=doc/performance.md writes the tables into that page as well.
bench:
	@tools/need build test bench
	@$(MAKE) --no-print-directory tests
	@tools/peers $(B)/peers
	@BUILD=$(B) PAGE=$(PAGE) $(PYTHON) tests/bench/bench.py
	@BUILD=$(B) $(PYTHON) tests/bench/bench_policy.py
	@BUILD=$(B) $(PYTHON) tests/bench/bench_certs.py
	@BUILD=$(B) $(PYTHON) tests/bench/bench_ldap.py
	@BUILD=$(B) PAGE=$(PAGE) $(PYTHON) tests/bench/bench_queue.py $(if $(LONG),,--short)
	@$(B)/tests/bench/bench_crl

# --- habits --------------------------------------------------------------------------------------

lint:
	@tools/need build test lint
	@$(MAKE) --no-print-directory $(B)/views $(B)/tls-policy.md $(B)/reference
	@tools/lint --build $(B)
	@$(MAKE) --no-print-directory -k tidy

# clang-tidy file by file; a file is looked at again when it or one of its headers changed. DEPTH: how many states of a
# function the analyzer follows (its own default unless told; a third of that takes half the time).
DEPTH ?= 225000
TIDY := $(patsubst %.c,$(B)/tidy/%,$(filter %.c,$(STORE) $(SHELL_C) $(DAEMON)))
tidy: $(TIDY)
$(B)/tidy/%: %.c $(B)/%.o .clang-tidy
	@mkdir -p $(@D)
	$(call say,TIDY)
	@clang-tidy --quiet --warnings-as-errors='*' $< -- $(ALL_CFLAGS) \
	    -Xclang -analyzer-config -Xclang max-nodes=$(DEPTH) 2>$@.log || \
	    { cat $@.log; exit 1; }
	@touch $@

format:
	clang-format -i $(filter %.c,$(SOURCES)) $(wildcard store/base/*.h store/*.h shell/*.h cmds/*.h daemon/*.h)

compile_commands.json: FORCE
	@for f in $(SOURCES); do printf '{"directory":"%s","file":"%s","command":"%s -c %s"}\n' \
	    '$(CURDIR)' "$$f" '$(CC) $(ALL_CFLAGS)' "$$f"; done | \
	    sed '1s/^/[/; $$!s/$$/,/; $$s/$$/]/' >$@

# --- installing ----------------------------------------------------------------------------------

install: all
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/sbin' \
	    '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/man/man8' \
	    '$(DESTDIR)$(PREFIX)/lib/systemd/system' '$(DESTDIR)$(PREFIX)/lib/sysusers.d'
	install -m 755 $(B)/postern '$(DESTDIR)$(PREFIX)/bin/postern'
	install -m 755 $(B)/posternd '$(DESTDIR)$(PREFIX)/sbin/posternd'
	install -m 644 doc/postern.1 '$(DESTDIR)$(PREFIX)/share/man/man1/postern.1'
	install -m 644 doc/posternd.8 '$(DESTDIR)$(PREFIX)/share/man/man8/posternd.8'
	sed 's|@PREFIX@|$(PREFIX)|g' packaging/postern.service \
	    >'$(DESTDIR)$(PREFIX)/lib/systemd/system/postern.service'
	install -m 644 packaging/postern.sysusers '$(DESTDIR)$(PREFIX)/lib/sysusers.d/postern.conf'

clean:
	rm -rf build build-asan build-tsan build-fuzz compile_commands.json

FORCE:
.PHONY: all programs help units tests run stop check asan tsan fuzz fuzzers soak bench lint tidy format install clean FORCE
.SECONDARY:
