#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The style of the sources, by the tools that are installed: clang-format, line length, cppcheck.
# Prints TAP. CLANG_FORMAT and CPPCHECK name the programs; empty or unset = looked for.
set -u
cd "${top_srcdir:-.}" || exit 99
CLANG_FORMAT=${CLANG_FORMAT:-$(command -v clang-format)}
CPPCHECK=${CPPCHECK:-$(command -v cppcheck)}
folders=
for folder in lib conf rpc virt net cloud agent ctl tests; do
    [ ! -d "$folder" ] || folders="$folders $folder"
done
sources=$(find $folders -name '*.[ch]' -not -path '*/.*' | sort)

# result NUMBER SENTENCE VIOLATIONS
result()
{
    if [ -z "$3" ]; then
        echo "ok $1 - $2"
    else
        echo "not ok $1 - $2"
        printf '%s\n' "$3" | sed 's/^/# /'
    fi
}

echo 1..3
# clang-format holds code to 100; comments may run over a little, and tables (.def.h) have a row a line.
result 1 "no line is longer than 120 characters" \
    "$(LC_ALL=C.UTF-8 grep -nHE '^.{121,}$' $(printf '%s\n' $sources | grep -v '\.def\.h$'))"

# Other releases lay out some constructs otherwise; the committed style is that of release 14.
sentence="all sources are as clang-format lays them out"
case $("${CLANG_FORMAT:-false}" --version 2>/dev/null) in
'') echo "ok 2 - $sentence # SKIP clang-format is not installed" ;;
*'version 14.'*)
    result 2 "$sentence" "$("$CLANG_FORMAT" --dry-run -Werror $sources 2>&1 |
        sed -n 's/^\([^:]*:[0-9]*\):.*Wclang-format.*/\1/p' | uniq)"
    ;;
*) echo "ok 2 - $sentence # SKIP clang-format is not of release 14" ;;
esac

sentence="cppcheck finds nothing that cppcheck.suppress does not explain"
if [ -z "$CPPCHECK" ]; then
    echo "ok 3 - $sentence # SKIP cppcheck is not installed"
else
    result 3 "$sentence" "$("$CPPCHECK" -q --enable=warning,performance,portability --std=c11 \
        --library=posix -I. -D__linux__ --suppressions-list=tests/unit/cppcheck.suppress \
        --template='{file}:{line}: {message} [{id}]' $folders 2>&1)"
fi
