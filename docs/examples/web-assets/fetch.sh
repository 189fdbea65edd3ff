#!/bin/sh
# Fetch onnxruntime-web with npm, check it, and leave what `srcli web --assets` takes in a folder: fetch.sh [FOLDER]
set -eu
version=1.30.0
integrity=sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==
folder=${1:-web-assets}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "onnxruntime-web@$version" > /dev/null
tarball=$work/onnxruntime-web-$version.tgz
found=sha512-$(openssl dgst -sha512 -binary "$tarball" | openssl base64 -A)
[ "$found" = "$integrity" ] || { echo "$tarball has another hash: $found" >&2; exit 1; }
tar xzf "$tarball" -C "$work"
mkdir -p "$folder"
for name in ort.wasm.min.mjs ort-wasm-simd-threaded.mjs ort-wasm-simd-threaded.wasm \
    ort.webgpu.min.mjs ort-wasm-simd-threaded.asyncify.mjs ort-wasm-simd-threaded.asyncify.wasm; do
  cp "$work/package/dist/$name" "$folder"
done
echo "srcli web -o page --assets $folder"
