# Builds ngx_agent_module.so against the headers of package nginx-dev, out of
# tree in build/$(MODE)/nginx. Included by the Makefile.

NGX_SRC ?= /usr/share/nginx/src
NGX_DIR := $(B)/nginx
AGENT_SRC := $(wildcard ngx_agent_module/ngx_agent_*.c)
AGENT_HDR := $(wildcard ngx_agent_module/*.h)

AGENT_LIBS := -lhs -lpcre2-8 -lm

# lib/ files that the module may link: plain data, no I/O.
AGENT_LIB := err str scope shape buf arena secret json id clock net generation without fingerprint
AGENT_OBJ := $(AGENT_LIB:%=$(B)/obj/lib/%.o) \
             $(call objs,$(filter %.pb-c.c,$(GEN_C)))

AGENT_OPT_release := -O2 -g -fPIC -fstack-protector-strong -D_FORTIFY_SOURCE=2
AGENT_OPT_asan := -O1 -g -fPIC -fsanitize=address,undefined \
                  -fno-omit-frame-pointer -fno-sanitize=alignment
AGENT_OPT_without := -O1 -g -fPIC $(LEFT_OUT)
AGENT_OPT_tsan := -O1 -g -fPIC
AGENT_LD := -Wl,-z,relro -Wl,-z,now
AGENT_LD_asan := -fsanitize=address,undefined

# The file list is part of the manifest: configure again when it changes.
$(NGX_DIR)/sources: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(sort $(AGENT_SRC)) | cmp -s - $@ || \
	  printf '%s\n' $(sort $(AGENT_SRC)) > $@
.PHONY: FORCE
FORCE:

$(NGX_DIR)/objs/Makefile: $(NGX_DIR)/sources ngx_agent_module/config \
                          ngx_agent_module/module.mk $(GEN)/.done
	@mkdir -p $(NGX_DIR)/tree && rm -rf $(NGX_DIR)/objs
	@ln -sfn $(NGX_SRC)/auto $(NGX_DIR)/tree/auto
	@ln -sfn $(NGX_SRC)/src $(NGX_DIR)/tree/src
	@ln -sfn $(NGX_SRC)/configure $(NGX_DIR)/tree/configure
	. $(NGX_SRC)/conf_flags && cd $(NGX_DIR)/tree && \
	  AGENT_ROOT=$(CURDIR) AGENT_GEN=$(CURDIR)/$(GEN) \
	  AGENT_OBJS="$(AGENT_OBJ:%=$(CURDIR)/%)" \
	  ./configure "$${NGX_CONF_FLAGS[@]}" --with-cc=$(CC) \
	    --with-cc-opt="-D_GNU_SOURCE $(AGENT_OPT_$(MODE))" \
	    --with-ld-opt="$(AGENT_LD) $(AGENT_LD_$(MODE))" \
	    --add-dynamic-module=$(CURDIR)/ngx_agent_module \
	    --builddir=$(CURDIR)/$(NGX_DIR)/objs > ../configure.log || \
	  { tail -n 20 ../configure.log; rm -f ../objs/Makefile; exit 1; }

$(MODULE): $(NGX_DIR)/objs/Makefile $(AGENT_SRC) $(AGENT_HDR) $(AGENT_OBJ)
	@mkdir -p $(@D) && rm -f $(NGX_DIR)/objs/ngx_agent_module.so
	$(MAKE) -s -C $(NGX_DIR)/tree -f $(CURDIR)/$(NGX_DIR)/objs/Makefile modules
	@cp $(NGX_DIR)/objs/ngx_agent_module.so $@ && echo "link $@"

.PHONY: module
module: $(MODULE) ## the nginx module alone

# Files that know no nginx are tested as plain C, without the services.
AGENT_PLAIN := ngx_agent_route ngx_agent_codec ngx_agent_codec_json \
               ngx_agent_frame ngx_agent_scrub ngx_agent_swap \
               ngx_agent_name ngx_agent_rules ngx_agent_prints \
               ngx_agent_mint
AGENT_PLAIN_SRC := $(wildcard $(AGENT_PLAIN:%=ngx_agent_module/%.c))
$(B)/unit/ngx_agent_%: $(B)/obj/tests/unit/ngx_agent_%.o \
                       $(call objs,$(AGENT_PLAIN_SRC)) $(AGENT_OBJ)
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) \
	  $(AGENT_LIBS) -lcmocka

# Tools for tests: a gRPC client that speaks the codec's JSON, and a scan of
# files with the rule set.
$(B)/tools/rpc_call $(B)/tools/rules_scan: \
$(B)/tools/%: $(B)/obj/tests/support/%.o $(call objs,$(AGENT_PLAIN_SRC)) \
              $(B)/libag.a $(B)/libproto.a
	@mkdir -p $(@D) && $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) \
	  $(AGENT_LIBS)
