#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# not-needed.sh READELF FILE PATTERN: FILE is linked with shared libraries, none of which matches PATTERN.
set -eu
needed=$("$1" --dynamic -W "$2" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
[ -n "$needed" ] || { echo "$2 needs nothing: this is read wrongly"; exit 1; }
if bad=$(echo "$needed" | grep -E "$3"); then
	echo "$2 is linked with $bad"
	exit 1
fi
