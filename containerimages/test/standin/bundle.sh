#!/usr/bin/env bash
# Gathers the driver of libsinsp and Python, with all libraries of theirs, in one directory: bundle.sh DIRECTORY
set -euo pipefail

bundle=$1
python=$(readlink -f /usr/bin/python3)
version=$(basename -- "$python")
readonly bundle python version

mkdir -p -- "$bundle/lib" "$bundle/python/lib"
cp -- /usr/local/bin/driver "$bundle/driver"
cp -- "$python" "$bundle/python3"
cp -r -- "/usr/lib/$version" "$bundle/python/lib/$version"
cp -r -- /usr/lib/python3/dist-packages/yaml "$bundle/yaml"

# Every library that any of them names, and the loader.
while IFS= read -r file; do
    { ldd "$file" 2>/dev/null || true; } | sed -nE 's/^.* => (\/[^ ]+) .*$/\1/p; s/^[[:space:]]*(\/[^ ]+) .*$/\1/p'
done < <(find "$bundle" -type f \( -perm -u+x -o -name '*.so*' \)) | sort -u | while IFS= read -r library; do
    cp -L -- "$library" "$bundle/lib/"
done
cp -L -- "$(ldd "$python" | sed -nE 's/^[[:space:]]*(\/[^ ]+) .*$/\1/p')" "$bundle/ld.so"
