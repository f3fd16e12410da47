#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An option that a user sets must do something: each row of the table is read by a room, or says that it
# has no effect (CONF_IDLE). Prints TAP.
set -u
cd "${top_srcdir:-.}" || exit 99
used=$(find rpc virt net cloud agent conf/conf.c conf/resolve.c -name '*.[ch]' -exec cat {} +)
echo 1..1
missing=$(tr -d '\n' <conf/options.def.h | sed 's/OPT(/\nOPT(/g' |
    sed -n '/CONF_IDLE/d; s/^OPT(\([a-zA-Z_]*\), \([a-zA-Z_]*\),.*/\1 \2/p' |
    while read -r group name; do
        # rpc's options are a table of bare names of the group; state_path is there to be referred to.
        # Rows of a macro for several groups are read by a macro for several groups.
        case $group.$name in
        oslo_messaging_rabbit.*) pattern="\\b$name\\b" ;;
        group.*) pattern="CONF_##[a-z_]*##_$name\\b" ;;
        *) pattern="CONF_${group}_$name\\b" ;;
        esac
        [ "$group.$name" = DEFAULT.state_path ] || printf '%s\n' "$used" | grep -q "$pattern" || echo "$group.$name"
    done)
if [ -z "$missing" ]; then
    echo "ok 1 - every option is read by a room or says that it has no effect"
    exit 0
fi
echo "not ok 1 - every option is read by a room or says that it has no effect"
printf '%s\n' "$missing" | sed 's/^/# nobody reads /'
exit 1
