GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

# Compiled from source at this version, once: nothing to install and everybody has the same.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Version and commit are passed in below. Go's own stamp would only fail where git distrusts the folder's owner.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

.PHONY: build release release-check test lint docs bench clean test-tools

# Static, and the same bytes wherever it is built: no paths, no build id.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath \
	-ldflags '-s -w -buildid= -X redis-janitor/cmd.buildVersion=$(VERSION) -X redis-janitor/cmd.buildCommit=$(COMMIT)'

PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
DIST      ?= dist

build:
	$(BUILD) -o redis-janitor .

# What .goreleaser.yaml builds, without goreleaser.
release:
	@rm -rf $(DIST); mkdir -p $(DIST)
	@set -e; for p in $(PLATFORMS); do \
		echo "building $$p"; \
		GOOS=$${p%/*} GOARCH=$${p#*/} $(BUILD) -o $(DIST)/redis-janitor-$${p%/*}-$${p#*/} .; \
	done
	@cd $(DIST) && (sha256sum redis-janitor-* 2>/dev/null || shasum -a 256 redis-janitor-*) > SHA256SUMS

# Builds here and in a copy elsewhere, and compares.
release-check:
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(MAKE) -s release DIST="$$tmp/here" VERSION='$(VERSION)' COMMIT='$(COMMIT)' PLATFORMS='$(PLATFORMS)'; \
	mkdir "$$tmp/copy"; cp -R go.mod go.sum Makefile main.go cmd janitor patterns ttlpolicy "$$tmp/copy"; \
	$(MAKE) -s -C "$$tmp/copy" release DIST="$$tmp/there" VERSION='$(VERSION)' COMMIT='$(COMMIT)' PLATFORMS='$(PLATFORMS)'; \
	cat "$$tmp/here/SHA256SUMS"; cmp "$$tmp/here/SHA256SUMS" "$$tmp/there/SHA256SUMS"

test: test-tools
	$(GO) vet ./...
	CGO_ENABLED=1 $(GO) test -race -timeout 45m ./...

lint:
	$(GO) run $(GOLANGCI_LINT) run ./...

# Man pages and the command reference, from the commands themselves. A test fails where they are not current.
docs:
	$(GO) test ./cmd -run TestManPagesAndCommandPagesAreCurrent -count=1 -update

bench:
	$(GO) run ./janitor/bench

clean:
	rm -rf redis-janitor $(DIST)

# The tests need a real redis-server, the race detector a C compiler. What is missing is brought by the package manager.
test-tools:
	@set -e; \
	root=; if [ "$$(id -u)" != 0 ]; then root="$$(command -v sudo || true)"; fi; \
	bring() { \
		what=$$1; \
		echo "$$what is missing and the tests need it: installing"; \
		if command -v apt-get >/dev/null; then \
			$$root apt-get update -qq || echo "apt-get update failed: trying with the lists there are"; \
			$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$2; \
		elif command -v apk >/dev/null; then $$root apk add --no-cache $$3; \
		elif command -v dnf >/dev/null; then $$root dnf install -y $$4; \
		elif command -v brew >/dev/null; then brew install $$5; \
		else echo "no apt-get, apk, dnf or brew here: install $$what by hand, then run make test again" >&2; exit 1; fi; \
	}; \
	command -v redis-server >/dev/null || bring redis-server redis-server redis redis redis; \
	set -- $$($(GO) env CC); \
	command -v "$$1" >/dev/null || bring "a C compiler ($$1)" "gcc libc6-dev" build-base gcc gcc
