#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The rules of the house, read from the sources: who may include whom, what is called in one place only,
# what is never called. Prints TAP; a violation is told as file:line.
set -u
cd "${top_srcdir:-.}" || exit 99
rooms="lib conf rpc virt net cloud agent ctl"
count=0

# result SENTENCE VIOLATIONS
result()
{
    count=$((count + 1))
    if [ -z "$2" ]; then
        echo "ok $count - $1"
    else
        echo "not ok $count - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
    fi
}

# Sources of the given folders; generated files are not in the source tree of a clean build.
sources()
{
    for folder in "$@"; do
        [ ! -d "$folder" ] || find "$folder" -name '*.[ch]'
    done | sort
}

# "file:line:included" of all includes in quotes below a folder
includes()
{
    sources "$1" | xargs -r grep -nH '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' |
        sed 's/^\([^:]*:[0-9]*\):[^"]*"\([^"]*\)".*/\1:\2/'
}

# may ROOM ALLOWED-ROOMS...: the room includes only these rooms
may()
{
    room=$1
    shift
    allowed=$(printf '%s|' "$@")
    result "$room includes only $*" \
        "$(includes "$room" | grep -vE "^[^:]*:[0-9]*:(config\.h|(${allowed%|})/.*)\$")"
}

calls()
{
    sources $rooms | grep -vE "$2" | xargs -r grep -nHE "(^|[^a-zA-Z0-9_\"])($1)" |
        grep -vE '^[^:]*:[0-9]*:[[:space:]]*(/?\*|//)'
}

# Each .c has its own header as its first include, where there is one.
own_header_first()
{
    for file in $(sources $rooms | grep '\.c$'); do
        header=${file%.c}.h
        [ -e "$header" ] || continue
        first=$(sed -n 's/^#include ["<]\([^">]*\)[">].*/\1/p' "$file" | grep -v '^config\.h$' |
            head -n 1)
        [ "$first" = "$header" ] || [ "$first" = "${header%.h}_internal.h" ] || echo "$file: the first include is $first"
    done
}

# All project headers that a file reaches.
reach()
{
    todo=$1
    seen=
    while [ -n "$todo" ]; do
        file=${todo%% *}
        rest=${todo#"$file"}
        todo=${rest# }
        case " $seen " in *" $file "*) continue ;; esac
        seen="$seen $file"
        [ ! -e "$file" ] ||
            todo="$todo $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file" | tr '\n' ' ')"
        todo=$(echo $todo)
    done
    printf '%s\n' $seen
}

policy_is_pure()
{
    for source in agent/policy*.c; do
        for file in $(reach "$source"); do
            case $file in
            agent/policy* | lib/attributes.h | lib/err.h | lib/vector.h | lib/text.h) ;;
            *) echo "$source reaches $file" ;;
            esac
        done
    done
    grep -nHE '^#include <' agent/policy*.[ch] |
        grep -vE '<(stdbool|stdint|stddef|limits|math|assert|inttypes|string|stdlib)\.h>'
}

licence_first()
{
    sources $rooms tests | while read -r file; do
        [ "$(head -n 1 "$file")" = '/* SPDX-License-Identifier: Apache-2.0 */' ] ||
            echo "$file:1: the first line is not the licence"
    done
}

may lib lib
may conf lib conf
may rpc lib conf rpc
may virt lib conf virt
may net lib conf net
may cloud lib conf rpc cloud
may agent lib conf rpc virt net cloud agent
may ctl lib conf ctl
result "agent/policy*.c includes no I/O header" "$(policy_is_pure)"
result "each source includes its own header first" "$(own_header_first)"
result "only lib/json.c calls json-c's parser" \
    "$(calls 'json_tokener_|json_object_from_f' '^lib/json\.c$')"
result "only libxml2's owner rooms include it" \
    "$(sources lib conf rpc net cloud agent ctl | xargs -r grep -nHE '^#include <libxml/')"
result "no shell is ever called" \
    "$(calls '(system|popen|execlp|execvp|wordexp) ?\(' '^$')"
result "no function that cannot be used safely is called" \
    "$(calls '(strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atoll|atof|strtok|tmpnam|mktemp|alloca) ?\(' \
        '^$')"
result "all randomness is the kernel's" "$(calls '(s?rand|s?random|drand48) ?\(' '^$')"
result "each source begins with the licence" "$(licence_first)"
echo "1..$count"
