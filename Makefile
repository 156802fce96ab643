.DEFAULT_GOAL := help
.PHONY: help up plug wit spin spin-component wasmcloud-component test build tools test-tools lint hosts bench simulate soak ci mail clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 24

up: tools ## set up, build, and serve on http://127.0.0.1:8080, with a mailbox (PORT=… for another port, WORKER=… as for plug)
	@$(if $(WORKER),.setup/plug $(WORKER),.setup/build component)
	@.setup/up $(if $(WORKER),$(or $(OUT),target/plug/afterack.wasm))

plug: tools ## plug workers in: WORKER="one.wasm name=other.wasm" makes target/plug/afterack.wasm (FOR=spin or wasmcloud, OUT=FILE)
	@.setup/plug $(WORKER)

wit: ## put wit/worker.wit, the world of networked plug-ins and WASI's definitions into .tools/wit
	@.setup/wit

spin: spin-component ## set up, build for Spin, and serve by `spin up` (spin must be on PATH)
	spin up

spin-component: tools ## set up, and build for Spin; `spin build` does that
	@.setup/build spin

wasmcloud-component: tools ## set up, and build for wasmCloud with PostgreSQL
	@.setup/build wasmcloud

test: test-tools build ## set up, build, and run all tests
	@rm -rf target/hosts
	HISTORIES=$${HISTORIES:-10000} cargo test --locked --quiet --lib
	cargo test --locked --quiet --test all -- --test-threads 3
	REUSE=1 cargo test --locked --quiet --test all -- --test-threads 4 --skip ::wash --skip ::spin --skip languages --skip readme
	cargo test --locked --quiet --doc

build: tools ## build the component and the examples, in target/wasm32-wasip2/release
	@.setup/build

tools: ## set up the hosts, wasm-tools and wasm-opt in .tools
	@.setup/tools

test-tools:
	@.setup/tools test

lint: ## check the formatting, and let clippy look
	cargo fmt --check
	cargo clippy --locked --quiet --all-targets -- -D warnings
	cargo clippy --locked --quiet --lib --no-default-features --features component,spin -- -D warnings
	cargo clippy --locked --quiet --lib --no-default-features --features component,wasmcloud -- -D warnings
	cargo clippy --locked --quiet --lib --features plugin -- -D warnings
	cargo clippy --quiet --lib --no-default-features --features jobs -- -D warnings
	cargo clippy --quiet --all-targets --no-default-features --features mail -- -D warnings
	cargo clippy --quiet --lib --no-default-features -- -D warnings

hosts: test ## run the tests and write what each host does into docs/hosts.md
	python3 .setup/hosts.py | tee docs/hosts.md

bench: build ## measure: ratios in one run (ONLY=throughput for that one)
	cargo bench --quiet --bench hosts -- $(ONLY)

simulate: ## run histories of hosts that die (HISTORIES=… for more or fewer than 50000 of each kind on disks, SEED=… for one)
	HISTORIES=$${HISTORIES:-50000} cargo test --locked --lib -- whatever_

soak: test-tools build ## kill hosts under load for 500 rounds (SOAK=… for more or fewer)
	SOAK=$${SOAK:-500} cargo test --locked --quiet --test all -- killed_hosts

ci: lint test ## all that must hold: lint, tests, and the build by both compilers
	.setup/ways

mail: ## show the mails that have come
	@python3 .setup/mail.py var/mailbox

clean: ## remove what was built and set up
	rm -rf target .tools var
