# Holdfast. "make" prints what there is; "make check" is what CI runs.

# The toolchain that go.mod names is fetched when the installed Go is older,
# whatever the machine's own go.env says.
export GOTOOLCHAIN := auto
export CGO_ENABLED := 0
export PATH := $(PATH):/usr/sbin:/sbin

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME    ?= 20s
SOAK        ?= 1h
# The race detector needs cgo, and with it a C compiler.
RACE        := $(shell command -v gcc >/dev/null 2>&1 && echo -race)
# Packages whose tests run a second time under the race detector.
RACED       := ./hub/... ./device/... ./internal/backoff/... ./internal/child/...

.DEFAULT_GOAL := help
.PHONY: help run test check lint fmt vet staticcheck tidy gen race fuzz bench soak powercut build package clean setup

help: ## print this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

run: ## install what is missing, build, and play the demo with its state in var/demo
	scripts/setup run
	$(MAKE) --no-print-directory build
	bin/holdfast demo --state var/demo

test: ## install what the tests need and run every test
	scripts/setup test
	HOLDFAST_REQUIRE=1 go test ./...

check: lint test race ## everything that CI runs

lint: fmt vet staticcheck tidy ## gofmt, go vet, staticcheck, go mod tidy

fmt:
	@out=$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 -r gofmt -l); \
	if [ -n "$$out" ]; then echo "not gofmt'd:"; echo "$$out"; exit 1; fi

vet:
	go vet ./...

staticcheck:
	go run $(STATICCHECK) ./...

tidy:
	go mod tidy -diff

# A test fails when one of these is stale.
gen: ## write generated documents and dependency lists anew
	go run ./internal/gendocs
	go test ./internal/arch -count=1 -run TestDependencyLists -rewrite

race: ## run the concurrent packages' tests under the race detector
	@if [ -z "$(RACE)" ]; then echo "no gcc: skipping the race detector"; \
	else echo "go test -race $(RACED)"; CGO_ENABLED=1 HOLDFAST_REQUIRE=1 go test -race $(RACED); fi

fuzz: ## run each fuzz target for FUZZTIME (20s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

bench: ## install what is missing, run the benchmarks, write bench/RESULTS.md
	scripts/setup bench
	scripts/bench

soak: ## hold 10,000 connections for SOAK (1h), see that memory stays flat
	HOLDFAST_SOAK=$(SOAK) go test ./test/bench -run '^TestSoak$$' -count=1 -timeout 0 -v

powercut: ## cut the power of an update everywhere; SEED=n samples differently, CUT=id (with ONLY=scenario) replays
	go test ./test/powercut -run '^TestPowerCuts$$$(if $(ONLY),/$(ONLY))' -count=1 -timeout 0 -v -full $(if $(SEED),-seed $(SEED)) $(if $(CUT),-cut $(CUT))

# A device's clock starts no earlier than when its program was built; the time
# of the commit keeps the build reproducible.
BUILT := $(shell git log -1 --format=%cI 2>/dev/null)

build: ## build bin/holdfast and bin/holdfast-device, stripped
	go build -trimpath -ldflags "-s -w -X main.built=$(BUILT)" -o bin/ ./cmd/...

package: ## build the Debian packages into dist/
	scripts/package

setup: ## install what run and test need
	scripts/setup test

clean: ## remove what was built and the demo's state
	rm -rf bin var dist
