#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that Trapline uses. Quick when they are there; never removes
# a package unless told --yes.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: resources/setup.sh [--check] [--yes]

  --check  name the packages that are missing and install nothing; status 65 when there are any
  --yes    go on even when apt has to remove packages for it
USAGE
}

# One line each, so that every package has its reason.
packages=(
    qemu-system-x86 # the lab
    busybox-static  # the shell in guests
    gcc libc6-dev   # the crate's C dependencies and its bare-metal payloads
    make flex bison bc perl          # `trapline kernel build`
    libelf-dev libssl-dev            # its objtool and its certificates
    cpio kmod xz-utils zstd          # its images and modules
)

say() { printf 'setup.sh: %s\n' "$*"; }
fail() { printf 'setup.sh: %s\n' "$*" >&2; exit 65; }

check=false yes=false
for argument; do
    case $argument in
        --check) check=true ;;
        --yes) yes=true ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 64 ;;
    esac
done

for tool in dpkg-query apt-get; do
    command -v "$tool" >/dev/null ||
        fail "there is no $tool: this is not Debian or Ubuntu. Install the like of: ${packages[*]}"
done

missing=()
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
for package in "${packages[@]}"; do
    grep -qx "installed $package" <<<"$installed" && continue
    # A QEMU of the user's own making serves as well.
    [[ $package = qemu-system-x86 ]] && command -v qemu-system-x86_64 >/dev/null && continue
    missing+=("$package")
done

if [[ ${#missing[@]} = 0 ]]; then
    say "nothing to do: all ${#packages[@]} packages are there"
    exit 0
fi
if $check; then
    fail "missing: ${missing[*]} (resources/setup.sh installs them)"
fi

as_root() {
    if [[ $(id -u) = 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "not root and there is no sudo; as root, run: $*"
    fi
}

# What apt would do, without doing it: lines that begin with Inst, Conf and Remv.
wanted=("${missing[@]}")
simulate() { LC_ALL=C apt-get -s install --no-install-recommends "${wanted[@]}" 2>&1; }

updated=false
update() {
    updated=true
    say "apt-get update"
    as_root apt-get update -q
}

if ! plan=$(simulate); then
    # No lists yet, or lists from before these packages were.
    update
    if ! plan=$(simulate); then
        # A qemu-utils of another suite breaks this suite's QEMU, and apt does not remove it unasked.
        wanted+=(qemu-utils-)
        if ! without=$(simulate) || ! grep -q '^Remv qemu-utils ' <<<"$without"; then
            printf '%s\n' "$plan" >&2
            fail "apt cannot install: ${missing[*]}"
        fi
        plan=$without
    fi
fi

removed=$(awk '$1 == "Remv" { print $2 }' <<<"$plan" | paste -sd ' ')
may_remove=--no-remove
if [[ -n $removed ]]; then
    if ! $yes; then
        for package in $removed; do
            say "$(dpkg-query -W -f='${Package} ${Version} is in the way' "$package")" >&2
        done
        fail "apt would remove: $removed. Nothing was changed." \
            "To go on and have it removed: resources/setup.sh --yes" \
            "(or install qemu-system-x86 from the suite it came from)"
    fi
    say "removing: $removed"
    may_remove=--
fi

say "installing: ${missing[*]}"
install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$may_remove" "${wanted[@]}"
}
if ! install; then
    $updated && fail "apt-get install failed; its own words are above"
    # Lists older than the mirror name files that are gone.
    update
    install || fail "apt-get install failed; its own words are above"
fi
say "done"
