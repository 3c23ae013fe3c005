# Installing, running and testing. Included by the Makefile.

need_root = @[ "$$(id -u)" -eq 0 ] || \
            { echo "make $@ needs root: run \`sudo make $@\`" >&2; exit 1; }
# A target that builds after `make deps` does so in a make of its own, since
# what is installed decides how to build.
again = $(MAKE) --no-print-directory MODE=$(MODE) CC=$(CC)

.PHONY: deps deps-tests
deps: ## install what building and running needs (root)
	$(need_root)
	@supervisor/deps.sh
deps-tests: ## the same, and what the tests need (root)
	$(need_root)
	@supervisor/deps.sh --tests

.PHONY: run demo
run: ## keep the platform up until Ctrl-C (root)
	$(need_root)
	@$(again) deps && $(again) -j2 all
	@BRAINBOX_BIN=$(B)/bin supervisor/run.sh
demo: ## install, build, start, and carry one session to its end (root)
	$(need_root)
	@$(again) deps && $(again) -j2 all
	@BRAINBOX_BIN=$(CURDIR)/$(B)/bin supervisor/demo/demo.sh

# ----------------------------------------------------------------- tests ----
.PHONY: tests quick check check-all
tests: $(UNIT_BIN) $(INTEG_BIN) $(TOOL_BIN)
quick: ## unit tests (at most two minutes)
	@$(again) -j2 $(UNIT_BIN)
	@tests/run.sh $(B) unit
check: ## unit, integration, end to end (root, at most twenty minutes)
	$(need_root)
	@$(again) deps-tests && $(again) -j2 all tests && $(again) lint
	@tests/run.sh $(B) unit integration e2e
.PHONY: escape escape-without without-build
escape: ## what a hostile program tries in a sandbox; WITHOUT=defence (root)
	$(need_root)
	@$(if $(WITHOUT),$(MAKE) --no-print-directory without-build,$(again) -j2 \
	  $(BINS) $(TOOL_BIN))
	@BRAINBOX_BUILD=$(CURDIR)/$(if $(WITHOUT),build/without,$(B)) \
	  SANDBOX_WITHOUT=$(WITHOUT) $(PYTHON) tests/escape/escape.py $(TESTS)
escape-without: ## each defence left out fails the tests that it decides (root)
	$(need_root)
	@$(MAKE) --no-print-directory without-build
	@BRAINBOX_BUILD=$(CURDIR)/build/without \
	  $(PYTHON) tests/escape/escape.py --without-each
without-build:
	@$(MAKE) --no-print-directory MODE=without -j2 \
	  $(patsubst $(B)/%,build/without/%,$(filter %/sandbox_launcher \
	  %/sandbox_init %/sandbox_svc %/bridge,$(BINS)) \
	  $(filter %/sandbox_call %/fake_vault %/sandbox_bench,$(TOOL_BIN)))
asan: ## all tests under ASan and UBSan (root)
	@$(MAKE) --no-print-directory MODE=asan check-all
tsan: ## unit tests and those of threads under TSan
	@$(MAKE) --no-print-directory MODE=tsan -j2 \
	  $(UNIT_BIN:$(B)/%=build/tsan/%) build/tsan/integration/rpc_test \
	  build/tsan/integration/db_test
	@tests/run.sh build/tsan unit threads
check-all:
	$(need_root)
	@$(again) -j2 all tests
	@tests/run.sh $(B) unit integration e2e

.PHONY: attack attack-without
attack: ## the agent in the sandbox attacks egress; CASES="15 48", WITHOUT= (root)
	$(need_root)
	@$(MAKE) --no-print-directory MODE=$(if $(WITHOUT),without,$(MODE)) -j2 all
	@BRAINBOX_BUILD=$(CURDIR)/$(if $(WITHOUT),build/without,$(B)) \
	  ATTACK_WITHOUT=$(WITHOUT) PATH=/usr/sbin:/sbin:$$PATH \
	  $(PYTHON) tests/attack/attack.py $(CASES)
attack-without: ## each defence left out fails the cases that it decides (root)
	$(need_root)
	@$(MAKE) --no-print-directory MODE=without -j2 all
	@BRAINBOX_BUILD=$(CURDIR)/build/without PATH=/usr/sbin:/sbin:$$PATH \
	  $(PYTHON) tests/attack/without.py $(DEFENCES)

.PHONY: lint docs format asan tsan bench bench-sandbox install
lint: ## rules of safety and layering
	@tests/lint/lint.sh
docs: $(BINS) ## write docs/config.md from the option tables
	@tests/lint/config_page.sh $(B)/bin > docs/config.md
format: ## clang-format over services, lib and tests
	clang-format -i lib/*.[ch] brain_svc/*.[ch] sandbox_svc/*.[ch] \
	  vault_svc/*.[ch] tests/unit/*.[ch] tests/integration/*.c
# Each target with everything it may call, all built for it in build/fuzz.
CFLAGS_fuzzcov := -O1 -g -fsanitize=fuzzer-no-link \
                  -fprofile-instr-generate -fcoverage-mapping
CFLAGS_fuzz := -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
               -fno-sanitize-recover=undefined
FUZZ_BIN := $(patsubst tests/fuzz/%.c,build/fuzz/bin/%,\
              $(wildcard tests/fuzz/*_fuzz.c))
TIME ?= 20
build/fuzz/bin/%_fuzz: build/fuzz/obj/tests/fuzz/%_fuzz.o \
                       $(AGENT_PLAIN_SRC:%.c=build/fuzz/obj/%.o) \
                       $(SERVICES:%=build/fuzz/lib%.a) \
                       build/fuzz/libag.a build/fuzz/libproto.a
	@mkdir -p $(@D)
	@clang $(CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS) \
	  $(AGENT_LIBS)
build/fuzzcov/bin/%_fuzz: build/fuzzcov/obj/tests/fuzz/%_fuzz.o \
                          $(AGENT_PLAIN_SRC:%.c=build/fuzzcov/obj/%.o) \
                          $(SERVICES:%=build/fuzzcov/lib%.a) \
                          build/fuzzcov/libag.a build/fuzzcov/libproto.a
	@mkdir -p $(@D)
	@clang $(CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS) $(AGENT_LIBS)
.PHONY: fuzz fuzz-build
fuzz: ## each parser of outside data, TIME=20 seconds each
	@$(MAKE) --no-print-directory -s MODE=fuzz CC=clang -j2 fuzz-build
	@tests/fuzz/run.sh build/fuzz/bin $(TIME)
fuzz-build: $(FUZZ_BIN)
.PHONY: fuzz-coverage
fuzz-coverage: ## lines of each parser that the fuzz targets' inputs reach
	@$(MAKE) --no-print-directory -s MODE=fuzzcov CC=clang -j2 \
	  fuzz-coverage-build
	@tests/fuzz/coverage.sh build/fuzzcov/bin build/fuzz/corpus
.PHONY: fuzz-coverage-build
fuzz-coverage-build: $(FUZZ_BIN:build/fuzz/%=build/fuzzcov/%)
bench-sandbox: all ## those of sandboxes alone, beside their peers (root)
	$(need_root)
	@tests/bench/run.sh $(B) sandbox
.PHONY: bench-vault
bench-vault: all ## numbers of the vault: decisions, verification (root)
	$(need_root)
	@tests/bench/run.sh $(B) vault
.PHONY: fault
fault: all ## faults at seeded moments; SEEDS=50 KINDS=a,b SEED=a:7 JOBS=2 (root)
	$(need_root)
	@BRAINBOX_BUILD=$(CURDIR)/$(B) SEEDS=$(or $(SEEDS),50) KINDS=$(KINDS) \
	  SEED=$(SEED) JOBS=$(or $(JOBS),2) PATH=/usr/sbin:/sbin:$$PATH \
	  $(PYTHON) tests/e2e/fault.py
.PHONY: bench-brain
bench-brain: all ## numbers of the brain: own time, memory, listeners (root)
	$(need_root)
	@tests/bench/run.sh $(B) brain
.PHONY: bench-egress
bench-egress: all ## numbers of egress beside nginx and mitmproxy (root)
	$(need_root)
	@tests/bench/run.sh $(B) egress
bench: all ## numbers: memory, latencies, requests per second (root)
	$(need_root)
	@tests/bench/run.sh $(B)
install: all ## install under PREFIX with systemd units (root)
	@PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) BIN=$(B)/bin supervisor/install.sh
