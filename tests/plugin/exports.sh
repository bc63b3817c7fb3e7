#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports.sh READELF FILE PATTERN: FILE exports something, and all that it exports matches PATTERN.
set -eu
# IMPOST_* are version nodes and not functions. Sanitizers and coverage add names that begin with __.
names=$("$1" --dyn-syms -W "$2" |
	awk '$1 ~ /^[0-9]+:$/ && $5 != "LOCAL" && $7 != "UND" && $7 != "ABS" && $8 !~ /^__/ { print $8 }' | sort -u)
[ -n "$names" ] || { echo "$2 exports nothing"; exit 1; }
if bad=$(echo "$names" | grep -Ev "$3"); then
	echo "$2 exports what it must not:"
	echo "$bad"
	exit 1
fi
echo "$names" | wc -l | sed "s,^,$2 exports: ,"
