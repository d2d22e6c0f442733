# Real-Time Data Streaming. The two commands: make run, make test. `make help` lists all targets.

DEPS ?= yes
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
BIN ?= bin
CC = gcc
VERSION = 0.1.0

TOOLS = ingest process broadcast streamctl
LAYERS = base data net run
PACKAGES = libzmq libczmq msgpack jansson libcurl libxxhash libpcre2-8 libssl libcrypto expat
PACKAGES_broadcast = sqlite3
PACKAGES_ingest = libpq sqlite3 libmariadb zlib libzstd libnats rdkafka
PACKAGES_process = sqlite3
PACKAGES_streamctl = libwebsockets

OPTIMIZE ?= -O2 -g
WARNINGS = -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-missing-field-initializers \
	-Wno-unused-parameter -Wno-format-truncation
CFLAGS_ALL = -std=gnu11 $(OPTIMIZE) $(WARNINGS) -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -fno-strict-aliasing \
	-Icommon $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null) $(SANITIZE) $(CFLAGS)
LDFLAGS_ALL = -Wl,--as-needed $(OPTIMIZE) -pthread $(SANITIZE) $(LDFLAGS)
LIBS = $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lm

COMMON_SOURCES = $(foreach l,$(LAYERS),$(wildcard common/$(l)/*.c common/$(l)/*/*.c))
COMMON_OBJECTS = $(COMMON_SOURCES:%.c=$(BUILD)/%.o)
tool_sources = $(wildcard cmd/$(1)/*.c)
tool_objects = $(patsubst %.c,$(BUILD)/%.o,$(call tool_sources,$(1)))
UNIT_SOURCES = $(wildcard tests/unit/test_*.c)
UNIT_TESTS = $(UNIT_SOURCES:tests/unit/%.c=$(BUILD)/tests/unit/%)

# Headers of libraries that stand in directories of their own.
CFLAGS_ingest = $(shell pkg-config --cflags $(PACKAGES_ingest) 2>/dev/null)
CFLAGS_unit = $(CFLAGS_ingest)
CFLAGS_fuzz = $(CFLAGS_ingest)

# Where make itself was not told how many jobs, parts are built side by side.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))
SUBMAKE = @+$(MAKE) --no-print-directory $(PARALLEL)

.PHONY: all tools run test unit unit-build bench soak fuzz fuzz-build asan lint install uninstall clean deps help
.SECONDARY:
.DEFAULT_GOAL = all

# One target for people who read no further; DEPS=no skips what would be installed.
all:
	@DEPS=$(DEPS) tests/deps build
	$(SUBMAKE) tools

deps:
	@DEPS=$(DEPS) tests/deps build run test bench fuzz lint

tools: $(TOOLS:%=$(BIN)/%) $(BUILD)/libstream.a
	@:

$(BUILD)/libstream.a: $(COMMON_OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

# The objects depend on the flags, so that a changed flag rebuilds them.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS_ALL)' | cmp -s - $@ || echo '$(CC) $(CFLAGS_ALL)' > $@
FORCE:

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC  $<"
	@$(CC) $(CFLAGS_ALL) $(CFLAGS_$(notdir $(patsubst %/,%,$(dir $<)))) -MMD -MP -c $< -o $@

define tool_rule
$(BIN)/$(1): $(call tool_objects,$(1)) $(BUILD)/libstream.a
	@mkdir -p $(BIN)
	$$(CC) $$(LDFLAGS_ALL) -o $$@ $$^ $$(LIBS) $$(LIBS_$(1)) $(if $(PACKAGES_$(1)),$$(shell pkg-config --libs $(PACKAGES_$(1))))
endef
$(foreach t,$(TOOLS),$(eval $(call tool_rule,$(t))))

# The dashboard's files go into the program by .incbin, plain and packed; uPlot comes from npm at its pinned version.
WEB = cmd/streamctl/web
UPLOT = $(WEB)/node_modules/uplot/dist
WEB_FILES = $(wildcard $(WEB)/*.html $(WEB)/*.css $(WEB)/*.js $(WEB)/*.svg)
WEB_ASSETS = $(WEB_FILES:$(WEB)/%=$(BUILD)/web/%) $(BUILD)/web/uplot.js $(BUILD)/web/uplot.css
CFLAGS_streamctl = -DWEB_DIRECTORY='"$(BUILD)/web"'

$(BUILD)/cmd/streamctl/rest_assets.o: $(WEB_ASSETS)

define pack
@mkdir -p $(@D)
@cp $< $@
@gzip -9nkf $@
endef
$(BUILD)/web/uplot.js: $(UPLOT)/uPlot.iife.min.js
	$(pack)
$(BUILD)/web/uplot.css: $(UPLOT)/uPlot.min.css
	$(pack)
$(BUILD)/web/%: $(WEB)/%
	$(pack)
$(UPLOT)/uPlot.iife.min.js $(UPLOT)/uPlot.min.css &: $(WEB)/package-lock.json
	@cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error && touch node_modules/uplot/dist/*

# Unit tests may use a tool's objects, its main excepted: tests/unit/test_TOOL_x.c.
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(BUILD)/libstream.a $(LIBS) -lcmocka
# They come as an archive: a test takes what it uses, and need not bring what main has.
define tool_unit_rule
$(BUILD)/cmd/$(1)/objects.a: $(filter-out %/main.o,$(call tool_objects,$(1)))
	@rm -f $$@
	@ar rcs $$@ $$^
$(BUILD)/tests/unit/test_$(1)_%: $(BUILD)/tests/unit/test_$(1)_%.o $(BUILD)/cmd/$(1)/objects.a $(BUILD)/libstream.a
	$$(CC) $$(LDFLAGS_ALL) -o $$@ $$(filter %.o,$$^) $(BUILD)/cmd/$(1)/objects.a $(BUILD)/libstream.a $$(LIBS) $$(LIBS_$(1)) $(if $(PACKAGES_$(1)),$$(shell pkg-config --libs $(PACKAGES_$(1)))) -lcmocka
endef
$(foreach t,$(TOOLS),$(eval $(call tool_unit_rule,$(t))))

# Programs that scenarios start beside the tools.
SCENARIO_TOOLS = $(patsubst tests/scenario/tools/%.c,$(BUILD)/tests/scenario/tools/%,$(wildcard tests/scenario/tools/*.c))
$(BUILD)/tests/scenario/tools/%: $(BUILD)/tests/scenario/tools/%.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

$(BUILD)/tests/scenario/tools/kafka_mock: LIBS += $(shell pkg-config --libs rdkafka)

unit-build: $(UNIT_TESTS) $(SCENARIO_TOOLS)

unit: unit-build
	@BUILD=$(BUILD) tests/run unit

CONFIG ?= pipelines/default.json
run: all
	@DEPS=$(DEPS) tests/deps run
	@$(BIN)/streamctl run $(CONFIG)

test:
	@DEPS=$(DEPS) tests/deps build run test
	$(SUBMAKE) tools unit-build
	@BUILD=$(BUILD) STREAM_BIN=$(BIN) tests/run

# All tests once more, against tools that check their own memory and arithmetic.
ASAN = BUILD=build/asan BIN=build/asan/bin OPTIMIZE='-O1 -g -fno-omit-frame-pointer' \
	SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all' CFLAGS='-Wno-maybe-uninitialized $(CFLAGS)'
asan:
	@DEPS=$(DEPS) tests/deps build run test
	$(SUBMAKE) $(ASAN) tools unit-build
	@BUILD=build/asan STREAM_BIN=build/asan/bin STREAM_PATIENCE=4 ASAN_OPTIONS=$${ASAN_OPTIONS:-detect_stack_use_after_return=1} \
		UBSAN_OPTIONS=$${UBSAN_OPTIONS:-print_stacktrace=1} tests/run $(TESTS)

# make fuzz FUZZ_TIME=600, make fuzz FUZZ=json
FUZZ ?= $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_TIME ?= 60
FUZZ_BUILD = BUILD=build/fuzz BIN=build/fuzz/bin CC=clang OPTIMIZE='-O1 -g' CFLAGS='-Wno-unknown-warning-option $(CFLAGS)' \
	SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all'
fuzz:
	@DEPS=$(DEPS) tests/deps build fuzz
	$(SUBMAKE) $(FUZZ_BUILD) FUZZ='$(FUZZ)' fuzz-build
	@tests/fuzz/run build/fuzz $(FUZZ_TIME) $(FUZZ)

fuzz-build: $(FUZZ:%=$(BUILD)/tests/fuzz/fuzz_%)

# The language's target and bench run whole programs: process without its main.
PROCESS_LIBS = $(shell pkg-config --libs $(PACKAGES_process))
PROCESS_PARTS = $(filter-out %/main.o,$(call tool_objects,process))
$(BUILD)/tests/fuzz/fuzz_language: $(BUILD)/tests/fuzz/fuzz_language.o $(PROCESS_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) $(PROCESS_LIBS)
$(BUILD)/tests/bench/process_%: $(BUILD)/tests/bench/process_%.o $(PROCESS_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(PROCESS_LIBS)

MQTT_PARTS = $(BUILD)/cmd/ingest/mqtt_packet.o $(BUILD)/cmd/ingest/mqtt_acks.o
$(BUILD)/tests/fuzz/fuzz_mqtt: $(BUILD)/tests/fuzz/fuzz_mqtt.o $(MQTT_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)
# Parsers of what ingest's peers send: each with its own object alone.
$(BUILD)/tests/fuzz/fuzz_http_head $(BUILD)/tests/fuzz/fuzz_http_sse: \
$(BUILD)/tests/fuzz/fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/cmd/ingest/%.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) -lz

$(BUILD)/tests/fuzz/fuzz_forward: $(BUILD)/tests/fuzz/fuzz_forward.o $(BUILD)/cmd/ingest/forward.o $(BUILD)/cmd/ingest/forward_chunk.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) -lz

NATS_PARTS = $(BUILD)/cmd/ingest/nats_seen.o $(BUILD)/cmd/ingest/nats_key.o
$(BUILD)/tests/fuzz/fuzz_nats: $(BUILD)/tests/fuzz/fuzz_nats.o $(NATS_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)

BINLOG_PARTS = $(patsubst %,$(BUILD)/cmd/ingest/%.o,binlog_charset binlog_event binlog_place binlog_table binlog_value mysql_connection)
$(BUILD)/tests/fuzz/fuzz_binlog: $(BUILD)/tests/fuzz/fuzz_binlog.o $(BINLOG_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) $(shell pkg-config --libs libmariadb zlib)

WEBSOCKET_PARTS = $(BUILD)/cmd/ingest/websocket_frame.o $(BUILD)/cmd/ingest/websocket_inflate.o $(BUILD)/cmd/ingest/websocket_handshake.o
$(BUILD)/tests/fuzz/fuzz_websocket: $(BUILD)/tests/fuzz/fuzz_websocket.o $(WEBSOCKET_PARTS) $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS) -lz

$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LIBS)

# make bench BENCH=filter runs the benchmarks whose name holds the word.
BENCH_PROGRAMS = $(patsubst tests/bench/%.c,$(BUILD)/tests/bench/%,$(wildcard tests/bench/*.c))
# Faults without end: SOAK_TIME seconds, SEED to repeat a run.
SOAK_TIME ?= 600
SEED ?= $(shell date +%s)
soak:
	@DEPS=$(DEPS) tests/deps build test
	$(SUBMAKE) tools
	@STREAM_BIN=$(BIN) /usr/bin/python3 tests/scenario/chaos.py --seconds $(SOAK_TIME) --seed $(SEED)

bench:
	@DEPS=$(DEPS) tests/deps build bench
	$(SUBMAKE) tools $(BENCH_PROGRAMS) $(SCENARIO_TOOLS)
	@BUILD=$(BUILD) STREAM_BIN=$(BIN) tests/bench/run $(BENCH)

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libstream.a
	$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

lint:
	@DEPS=$(DEPS) tests/deps build lint
	@tests/lint

# PREFIX and DESTDIR as usual. An example: cc -I$(PREFIX)/include/stream x.c -lstream.
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib $(DESTDIR)$(PREFIX)/share/stream/pipelines
	install $(TOOLS:%=$(BIN)/%) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(BUILD)/libstream.a $(DESTDIR)$(PREFIX)/lib
	for layer in $(LAYERS); do \
		install -d $(DESTDIR)$(PREFIX)/include/stream/$$layer; \
		install -m 644 common/$$layer/*.h $(DESTDIR)$(PREFIX)/include/stream/$$layer; \
	done
	for page in man/*.[1-9]; do \
		install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; \
	done
	install -m 644 pipelines/*.json pipelines/*.case $(DESTDIR)$(PREFIX)/share/stream/pipelines
	install pipelines/*.sh $(DESTDIR)$(PREFIX)/share/stream/pipelines

uninstall:
	rm -f $(TOOLS:%=$(DESTDIR)$(PREFIX)/bin/%) $(DESTDIR)$(PREFIX)/lib/libstream.a
	rm -rf $(DESTDIR)$(PREFIX)/include/stream $(DESTDIR)$(PREFIX)/share/stream
	for page in man/*.[1-9]; do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}; done

clean:
	rm -rf build bin

help:
	@echo 'make run        install what is missing, build, start the default pipeline, dashboard on http://localhost:5000'
	@echo '                (CONFIG=FILE for another config.json)'
	@echo 'make test       install what is missing, build, run all tests'
	@echo 'make            build the tools into bin/'
	@echo 'make unit       unit tests only             make asan      all tests under ASan and UBSan (TESTS=unit for a part)'
	@echo 'make bench      measure (BENCH=WORD)        make fuzz      libFuzzer (FUZZ=NAME, FUZZ_TIME=SECONDS each)'
	@echo 'make soak       chaos runs (SOAK_TIME=SECONDS, SEED=N): faults injected, events lost and doubled'
	@echo 'make lint       static checks, man pages    make deps      install what all targets need'
	@echo 'make install    PREFIX=/usr/local, DESTDIR  make uninstall, make clean'
	@echo 'DEPS=no         never install anything'

-include $(COMMON_OBJECTS:.o=.d) $(foreach t,$(TOOLS),$(patsubst %.o,%.d,$(call tool_objects,$(t)))) $(wildcard $(BUILD)/tests/*/*.d $(BUILD)/tests/*/*/*.d)
