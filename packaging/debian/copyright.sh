#!/bin/sh
# The copyright file of the package: Weir's own licence, then each module with the licence that it brings.
#   copyright.sh NODE_MODULES
set -eu
cat <<'END'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: weir

Files: *
Copyright: the Weir authors
License: Apache-2.0

License: Apache-2.0
 On Debian systems the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.

Comment: What follows are the licences of Node.js and of the modules below
 /usr/lib/weir/node_modules, as their authors wrote them.
END
find "$1" -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' \) | LC_ALL=C sort | while read -r file; do
  printf '\n %s\n .\n' "${file#"$1"/}"
  if grep -q 'Apache License' "$file" && grep -q 'Version 2.0, January 2004' "$file" && [ "$(wc -l <"$file")" -lt 260 ]; then
    grep -i '^ *copyright [0-9(]' "$file" | sed 's/^ */ /' || true
    echo ' Apache License 2.0: /usr/share/common-licenses/Apache-2.0'
    continue
  fi
  sed 's/\r$//; s/[[:space:]]*$//; s/^$/./; s/^/ /' "$file"
done
