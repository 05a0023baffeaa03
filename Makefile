# How to build, try, test and install quantum-cni. `make` alone lists what there is.
#
# Nothing here touches the machine's network: the demo, the tests and the bench run in namespaces of
# their own. What is missing is installed with apt when make runs as root, and named when it does
# not.

# rustup's cargo may not be on the PATH of a fresh shell; nft and ip are not on that of a user.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/sbin:/usr/sbin:/sbin

TARGET  := $(or $(CARGO_TARGET_DIR),target)
DEBUG   := $(TARGET)/debug
RELEASE := $(TARGET)/release
PLUGIN  := $(TARGET)/plugin/quantum-cni
NOOP    := $(TARGET)/plugin/quantum-noop

# The plugin is exec'd for every call; a static binary starts half a millisecond sooner.
STATIC := -C target-feature=+crt-static -C relocation-model=static

# The packages of the daemon and of quantumctl.
PROGRAMS := -p quantum-cnid -p quantum-cni

# What cargo-deny looks at. Advisories are fetched from GitHub: without it, leave them out.
DENY ?= advisories bans licenses sources

# The reference plugins that the bench puts beside ours, where they are installed.
PEER_DIR ?= /usr/lib/cni
BENCH_ARGS ?=

# How long each fuzz target runs, in seconds, and the compiler: libFuzzer needs options that a stable
# one has only when it is told to.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(patsubst fuzz/targets/%.rs,%,$(wildcard fuzz/targets/*.rs))
FUZZ_CARGO ?= RUSTC_BOOTSTRAP=1 cargo
FUZZ_FLAGS := -timeout=10 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1

DESTDIR ?=

.DEFAULT_GOAL := help
.PHONY: help build release plugin image demo test e2e e2e-newer e2e-kubernetes check conformance fuzz bench install uninstall clean

help: ## Lists the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: plugin ## Builds the static plugin, and daemon, quantumctl and load test for debugging
	cargo build --workspace --bins

release: plugin ## Builds plugin, daemon and quantumctl for use
	cargo build --release $(PROGRAMS) --bins

plugin:
	@dist/tools.sh build
	cargo rustc -p quantum-cni-plugin --profile plugin --bin quantum-cni -- $(STATIC)

demo: release ## Shows what quantum-cni does, step by step (6 seconds, and some minutes to build)
	@dist/tools.sh run
	@QUANTUM_BIN_DIR=$(RELEASE) tests/demo.sh

test: build ## Runs all tests
	@dist/tools.sh run
	cargo test --workspace

image: release ## Makes the image that config/samples/kubernetes runs on every node
	@dist/tools.sh run image
	dist/node-image.sh $(TARGET)/quantum-cni-image.tar docker.io/library/quantum-cni:latest \
		$(RELEASE)/quantum-cnid $(RELEASE)/quantumctl $(PLUGIN)

# The stories, all of tests/e2e if none is named: make e2e STORIES=podman
STORIES ?=
KUBERNETES := $(abspath $(TARGET)/kubernetes)
E2E = QUANTUM_BIN_DIR=$(abspath $(DEBUG)) QUANTUM_PLUGIN=$(abspath $(PLUGIN)) QUANTUM_KUBERNETES=$(KUBERNETES)

e2e: build ## Runs real runtimes with our plugin, installed with apt where they are missing (STORIES=…)
	@dist/tools.sh run
	@$(E2E) tests/e2e/run $(STORIES)

e2e-kubernetes: build ## Runs a Kubernetes of two nodes with our plugin, built once from Debian's source
	@dist/tools.sh run
	@tests/e2e/kubernetes/build.sh $(KUBERNETES)
	@$(E2E) tests/e2e/run kubernetes/kubernetes

# The suites of Debian whose runtimes are tried, trixie and sid if none is named: make e2e-newer SUITES=sid
SUITES ?=

e2e-newer: build ## Runs the stories with the runtimes of newer Debians, not installed (SUITES=… STORIES=…)
	@dist/tools.sh run
	@$(E2E) QUANTUM_RUNTIMES=$(abspath $(TARGET)/runtimes) STORIES="$(STORIES)" tests/e2e/newer $(SUITES)

conformance: build ## Runs the conformance cases beside the reference plugins, and prints both
	@dist/tools.sh run
	@dist/tools.sh peers || true
	QUANTUM_CONFORMANCE_PEERS=$(PEER_DIR) cargo test --test conformance

fuzz: ## Feeds what strangers may send, made up by libFuzzer (FUZZ_SECONDS=… for each of FUZZ_TARGETS=…)
	@dist/tools.sh build fuzz
	@set -eu; for target in $(FUZZ_TARGETS); do \
		mkdir -p $(TARGET)/fuzz-corpus/$$target; \
		dictionary=fuzz/$$target.dict; \
		(set -x; $(FUZZ_CARGO) fuzz run $$target $(TARGET)/fuzz-corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) $(FUZZ_FLAGS) $$([ ! -e $$dictionary ] || echo -dict=$$dictionary)); \
	done

check: ## Format, lints, dependencies, the rules of the house, the documentation of the code
	@dist/tools.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p quantum-cni --features fuzzing -- -D warnings
	@if command -v cargo-deny >/dev/null; then \
		set -x; cargo deny --workspace check $(DENY); \
	else \
		echo "skipped: cargo deny (cargo install --locked cargo-deny)"; \
	fi
	cargo test --test tidy
	@# The fuzz targets are no part of the workspace, and are not to fall behind it.
	@if command -v c++ >/dev/null; then \
		set -x; cargo check --quiet --manifest-path fuzz/Cargo.toml --target-dir $(TARGET)/fuzz-check; \
	else \
		echo "skipped: fuzz targets (they need a compiler for C++)"; \
	fi
	@# One after the other: library and plugin are both called quantum_cni there.
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --exclude quantum-cni-plugin
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -p quantum-cni-plugin

bench: release $(NOOP) ## Measures ADD and DEL beside the reference plugins and the kernel (BENCH_ARGS=…)
	@dist/tools.sh run
	cargo bench --bench requests -- --quiet
	cargo bench --bench netfilter
	cargo bench --bench policy
	cargo build --release -p quantum-loadtest --bins
	$(RELEASE)/quantum-loadtest bench --plugin $(PLUGIN) --daemon $(RELEASE)/quantum-cnid \
		--noop $(NOOP) --json $(TARGET)/bench.json \
		$(if $(wildcard $(PEER_DIR)/bridge),--peer-dir $(PEER_DIR)) $(BENCH_ARGS)

$(NOOP): loadtest/noop/main.rs
	@mkdir -p $(@D)
	rustc --edition 2024 -O $(STATIC) $< -o $@

# Written beside its place and renamed into it: whoever runs the old file keeps it, and there is no
# moment without one.
put = install -D -m $(1) $(2) $(DESTDIR)/$(3).new && mv -f $(DESTDIR)/$(3).new $(DESTDIR)/$(3)

SHARE   := usr/local/share/quantum-cni
UNITS   := usr/local/lib/systemd/system
SAMPLES := $(patsubst config/samples/%,%,$(shell find config/samples -type f))

define newline


endef

install: release ## Installs everything below DESTDIR= (default: the machine)
	$(call put,755,$(PLUGIN),opt/cni/bin/quantum-cni)
	$(call put,755,$(RELEASE)/quantum-cnid,usr/local/sbin/quantum-cnid)
	$(call put,755,$(RELEASE)/quantumctl,usr/local/bin/quantumctl)
	$(call put,644,dist/quantum-cnid.socket,$(UNITS)/quantum-cnid.socket)
	$(call put,644,dist/quantum-cnid.service,$(UNITS)/quantum-cnid.service)
	$(foreach file,$(SAMPLES),$(call put,644,config/samples/$(file),$(SHARE)/$(file))$(newline)	)

uninstall: ## Removes what install installed; settings and state stay
	rm -f $(DESTDIR)/opt/cni/bin/quantum-cni $(DESTDIR)/usr/local/sbin/quantum-cnid \
		$(DESTDIR)/usr/local/bin/quantumctl \
		$(DESTDIR)/$(UNITS)/quantum-cnid.socket $(DESTDIR)/$(UNITS)/quantum-cnid.service
	rm -rf $(DESTDIR)/$(SHARE)

clean: ## Removes everything that was built
	cargo clean
