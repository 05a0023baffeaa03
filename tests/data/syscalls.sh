#!/bin/bash
# syscalls.sh >syscalls-x86_64.txt: what the groups of SystemCallFilter= in dist/quantum-cnid.service hold, for
# the test that runs the daemon under them. Needs systemd-analyze and the kernel's headers (linux-libc-dev).
set -euo pipefail

numbers=/usr/include/x86_64-linux-gnu/asm/unistd_64.h

# members GROUP: the names in it and in the groups that it holds.
members() {
    local name
    for name in $(systemd-analyze syscall-filter "$1" | tail -n +2 | grep -v '#'); do
        case $name in
        @*) members "$name" ;;
        *) echo "$name" ;;
        esac
    done
}

# with_numbers: those of standard input that this architecture has.
with_numbers() {
    sort -u | while read -r name; do
        awk -v name="__NR_$name" '$1 == "#define" && $2 == name { printf " %s=%s", substr(name, 6), $3 }' "$numbers"
    done
}

echo "# By tests/data/syscalls.sh, $(systemd-analyze --version | head -1)"
for group in $(sed -n 's/^SystemCallFilter=~\{0,1\}//p' "$(dirname "$0")/../../dist/quantum-cnid.service"); do
    case $group in
    @*) echo "$group$(members "$group" | with_numbers)" ;;
    *) echo "$group$(echo "$group" | with_numbers)" ;;
    esac
done
