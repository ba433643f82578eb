# `make cycle` and `make test` are the two commands of the README; `make check` is the quick loop.

PYTHON ?= python3.11
INVENTORY ?= inventory/local
# Handed to ansible-playbook as they are, e.g. ARGS='-e kv_connector=mooncake-store'.
ARGS ?=

bin := .venv/bin
# Compiling everything would take a third of the installation; what every start of kvkit imports is compiled at once.
install = $(bin)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable
compile = $(bin)/kvkit --help > /dev/null
# Many container images set it. Without what Python keeps of its compiling, ansible-playbook takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE
# ansible-lint and the tests look for ansible-playbook on the PATH.
export PATH := $(CURDIR)/$(bin):$(PATH)

.PHONY: cycle test test-rdma check lint unit faults fuzz audit docs constraints clean

cycle: .venv/cycle.stamp
	$(bin)/ansible-playbook -i $(INVENTORY) playbooks/site.yml $(ARGS)

test: lint .venv/browser.stamp .venv/hosts.stamp
	$(bin)/pytest

# Linters and unit tests side by side: on two cores they take half as long.
check: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit

lint: .venv/dev.stamp
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/yamllint --strict .
	$(bin)/ansible-lint --offline --profile production

unit: .venv/dev.stamp
	$(bin)/pytest -m 'not playbook and not cycle and not real'

# Every fault at every stage, printed and kept in docs/fault-matrix.md. Wants root (small disks) and libfaketime.
faults: .venv/dev.stamp
	$(bin)/python -m tests.faults --write $(ARGS)

# Preflight and Mooncake on real RDMA devices: two machines in QEMU, whose kernel is Debian's. Wants root, and the stack's 3.7 GB.
test-rdma: .venv/dev.stamp .venv/kernel.stamp
	$(bin)/pytest -m rdma

.venv/kernel.stamp:
	apt-get update -qq && apt-get install -qq -y --no-install-recommends qemu-system-x86 busybox-static cpio kmod \
		ibverbs-providers iproute2 openssh-server openssh-client systemd
	image=$$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-6[^ ]*\).*/\1/p' | head -1) && \
		mkdir -p build/kernel && cd build/kernel && apt-get download -q $$image && rm -rf unpacked && \
		dpkg --extract $$image*.deb unpacked && /sbin/depmod --basedir unpacked $${image#linux-image-} && \
		cache=$${XDG_CACHE_HOME:-$$HOME/.cache}/kvkit && mkdir -p $$cache && rm -rf $$cache/kernel && mv unpacked $$cache/kernel
	touch $@

# Every reader of what others write, for a while with broken input; less of it with ARGS='--minutes 1 --only sse'.
fuzz: .venv/dev.stamp
	$(bin)/python -m tests.fuzz $(ARGS)

# Asks PyPI for known weaknesses of everything that is pinned: the kit's packages, and the rehearsal's stack. Needs the network.
audit:
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	for pins in constraints.txt roles/stack/files/constraints-stack.txt; do \
		sed 's/+cpu$$//' $$pins | build/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement /dev/stdin || failed=1; \
	done; exit $${failed:-0}

# The pages that are made from code: checks, command line, variables, test configuration.
docs: .venv/dev.stamp
	$(bin)/python -c 'from docs.make_pages import write; write()'

# The pip that comes with Python 3.11 takes twice as long.
.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(bin)/python -m pip install --quiet --upgrade --constraint constraints.txt pip

.venv/cycle.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(install) '.[ansible,charts,compare,local]'
	$(compile)
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(install) '.[ansible,charts,compare,local,dev]'
	$(compile)
	touch $@ .venv/cycle.stamp

# Chromium and axe-core, for the tests that open a report. Where they cannot be had, those tests say what is missing.
.venv/browser.stamp: tests/browser/package.json .venv/dev.stamp
	mkdir -p .venv/browser
	cp tests/browser/package.json .venv/browser/
	-for tool in chromium npm; do command -v $$tool || { apt-get update -qq && \
		apt-get install -qq -y --no-install-recommends $$tool; }; done > .venv/browser/apt.log
	-npm install --prefix .venv/browser --no-audit --no-fund --no-package-lock --loglevel=error
	touch $@

# What hosts out of namespaces are made with. Where it cannot be had, their tests say what is missing.
.venv/hosts.stamp: .venv/dev.stamp
	-for tool in ip:iproute2 /usr/sbin/nft:nftables ssh:openssh-client /usr/sbin/sshd:openssh-server /lib/systemd/systemd:systemd; \
		do command -v $${tool%%:*} || { apt-get update -qq && apt-get install -qq -y --no-install-recommends $${tool#*:}; }; \
	done > .venv/hosts.log
	touch $@

# Takes what an environment without constraints would hold today.
constraints:
	rm -rf build/newest
	$(PYTHON) -m venv build/newest
	build/newest/bin/python -m pip install --quiet --upgrade pip '.[ansible,charts,compare,local,dev]'
	{ sed -n '/^#/p' constraints.txt; build/newest/bin/python -m pip freeze --all --exclude kvkit --exclude setuptools; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
