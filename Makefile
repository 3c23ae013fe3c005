# Brainbox. `make help` lists the targets.
#
#   MODE   release (default), asan, tsan, without   each has its own folder
#          build/$(MODE)
#   CC     gcc (default) or clang
.DEFAULT_GOAL := all
SHELL := /bin/bash
MODE ?= release
PREFIX ?= /usr/local
DESTDIR ?=
B := build/$(MODE)
GEN := build/gen
export PATH := /usr/sbin:/sbin:$(PATH)
PYTHON := /usr/bin/python3

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes \
        -Wvla -Wswitch-enum -Werror \
        $(if $(findstring clang,$(CC)),,-Wno-format-truncation)
CPPFLAGS += -I. -I$(GEN) -D_GNU_SOURCE
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer \
               -fno-sanitize-recover=undefined
CFLAGS_tsan := -O1 -g -fsanitize=thread
# Programs that leave out the defences that a file names, for tests alone.
LEFT_OUT := -DSANDBOX_TEST_WITHOUT \
            -DAG_TEST_WITHOUT=$(CURDIR)/build/without/left-out
CFLAGS_without := -O1 -g $(LEFT_OUT)
CFLAGS += -std=gnu11 -fstack-protector-strong -fPIC $(CFLAGS_$(MODE))
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS_$(MODE))
LDLIBS := -lgrpc -lgpr -lprotobuf-c -lpq -lssl -lcrypto -ljansson -lcurl \
          -lidn2 -lpsl -lseccomp -lcap -lnftnl -lmnl -pthread
CPPFLAGS += -I/usr/include/postgresql

PROTOS := brain.proto sandbox.proto vault.proto google/rpc/status.proto \
          grpc/health/v1/health.proto grpc/reflection/v1/reflection.proto
GEN_C := $(PROTOS:%.proto=$(GEN)/%.pb-c.c) $(GEN)/agent_rpc.c
SERVICES := brain_svc sandbox_svc vault_svc

# A binary is its main file and the archive of its folder.
MAINS := brain_svc/main.c sandbox_svc/main.c sandbox_svc/bridge.c \
         sandbox_svc/launcher.c sandbox_svc/init.c vault_svc/main.c \
         vault_svc/keeper.c vault_svc/bridge.c
BINS := $(B)/bin/brain_svc $(B)/bin/sandbox_svc $(B)/bin/bridge \
        $(B)/bin/sandbox_launcher $(B)/bin/sandbox_init $(B)/bin/vault_svc \
        $(B)/bin/vault_keeper $(B)/bin/vault_bridge
MODULE := $(B)/bin/ngx_agent_module.so

objs = $(patsubst %.c,$(B)/obj/%.o,$(1))
LIB_SRC := $(wildcard lib/*.c)
srcs = $(filter-out $(MAINS),$(wildcard $(1)/*.c))
UNIT_SRC := $(wildcard tests/unit/*_test.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
INTEG_SRC := $(wildcard tests/integration/*_test.c)
INTEG_BIN := $(INTEG_SRC:tests/integration/%.c=$(B)/integration/%)
TOOL_SRC := $(wildcard tests/support/*.c)
TOOL_BIN := $(TOOL_SRC:tests/support/%.c=$(B)/tools/%)

.PHONY: all
all: $(BINS) $(MODULE) ## build everything

# ------------------------------------------------------------- generated ----
$(GEN)/.done: lib/rpc_gen.py $(PROTOS:%=proto/%) proto/google/api/http.proto \
              proto/google/api/annotations.proto proto/agent/options.proto
	@mkdir -p $(GEN)
	$(PYTHON) lib/rpc_gen.py $(GEN) proto $(PROTOS)
	protoc-c --descriptor_set_in=$(GEN)/stripped.pb --c_out=$(GEN) $(PROTOS)
	@touch $@
$(GEN_C) $(GEN)/agent_routes.inc $(GEN)/openapi.json: $(GEN)/.done ;

# Generated code is exempt from the warnings.
$(B)/obj/$(GEN)/%.o: $(GEN)/%.c $(GEN)/.done
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -w -MMD -MP -c -o $@ $<

# -------------------------------------------------------------- compiled ----
$(B)/obj/%.o: %.c | $(GEN)/.done
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN) -MMD -MP -c -o $@ $<

$(B)/libag.a: $(call objs,$(LIB_SRC))
$(B)/libproto.a: $(call objs,$(GEN_C))
$(foreach s,$(SERVICES),$(eval $(B)/lib$(s).a: $(call objs,$(call srcs,$(s)))))
$(B)/%.a:
	@mkdir -p $(@D) && rm -f $@
	ar rcs $@ $^

# The service archives may use each other's generated code, never their code.
link = @mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) && \
       echo "link $@"
define binary
$(B)/bin/$(1): $(B)/obj/$(2).o $(B)/lib$(firstword $(subst /, ,$(2))).a \
               $(B)/libag.a $(B)/libproto.a
	$$(link)
endef
$(eval $(call binary,brain_svc,brain_svc/main))
$(eval $(call binary,sandbox_svc,sandbox_svc/main))
$(eval $(call binary,bridge,sandbox_svc/bridge))
$(eval $(call binary,sandbox_launcher,sandbox_svc/launcher))
$(eval $(call binary,vault_svc,vault_svc/main))
$(eval $(call binary,vault_keeper,vault_svc/keeper))
$(eval $(call binary,vault_bridge,vault_svc/bridge))

# Pid 1 of a sandbox runs on the sandbox's root: static, and no library but
# musl's, which starts in a quarter of the time.
$(B)/bin/sandbox_init: sandbox_svc/init.c $(wildcard sandbox_svc/init*.h)
	@mkdir -p $(@D)
	musl-gcc -I. -D_GNU_SOURCE $(filter -DSANDBOX%,$(CFLAGS_$(MODE))) -std=gnu11 -O2 -g $(WARN) \
	  -static -o $@ $<

# ---------------------------------------------------------------- module ----
-include ngx_agent_module/module.mk

# ----------------------------------------------------------------- tests ----
$(B)/unit/%: $(B)/obj/tests/unit/%.o $(SERVICES:%=$(B)/lib%.a) $(B)/libag.a \
             $(B)/libproto.a
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
$(B)/integration/%: $(B)/obj/tests/integration/%.o \
             $(SERVICES:%=$(B)/lib%.a) $(B)/libag.a $(B)/libproto.a
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka
# The launcher's messages are its own.
$(B)/tools/launcher_bench: $(B)/libsandbox_svc.a
$(B)/tools/%: $(B)/obj/tests/support/%.o $(B)/libag.a $(B)/libproto.a
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
-include tests/tests.mk

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | \
	  sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14
