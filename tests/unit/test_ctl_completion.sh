#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The bash completion, run in bash: what a user would be offered. Prints TAP.
script=${top_builddir:-.}/etc/computectl.bash-completion
if ! command -v bash >/dev/null; then
    echo "1..0 # SKIP bash is not installed"
    exit 0
fi
count=0
failed=0

# offered "words typed so far" "expected word" "sentence": the last word is the one being completed.
offered() {
    count=$((count + 1))
    words=$(bash -c '
        computectl() { echo "{\"instances\":[{\"uuid\":\"1b0e\",\"name\":\"guest1\"}]}"; }
        . "$1"
        read -r -a COMP_WORDS <<<"$2"
        case $2 in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _computectl
        printf "%s\n" "${COMPREPLY[@]}"' bash "$script" "$1" 2>&1)
    if printf '%s\n' "$words" | grep -qxF -e "$2"; then
        echo "ok $count - $3"
    else
        echo "not ok $count - $3"
        printf '%s\n' "$words" | sed 's/^/# /'
        failed=1
    fi
}

offered "computectl mig" migrate "a command is completed"
offered "computectl conf im" import "the second word of a command is completed"
offered "computectl migrate gu" guest1 "instances are asked from the agent"
offered "computectl migrate guest1 --t" --to "options of the command are completed"
offered "computectl list --j" --json "options of every command are completed"
offered "computectl set guest1 down" downtime= "settings are completed"
offered "computectl conf get libvirt.live_migration_downtime_d" libvirt.live_migration_downtime_delay "configuration options are completed"
offered "computectl log-level rpc de" debug "levels are completed"
offered "computectl --host hostb migr" migrations "an option before the command does not disturb"
echo "1..$count"
exit $failed
