#!/bin/bash
# pack-image.sh ROOT FILE NAME COMMAND: makes of a root folder an image of one layer, in a file that is both
# what `docker save` writes and an OCI layout, so that every runtime's import takes it. Nothing is pulled from
# anywhere. COMMAND is a list in JSON.
set -euo pipefail

root=$1 file=$2 name=$3 command=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/blobs/sha256
mkdir -p "$blobs"

# blob FILE: moves it in, and prints its digest.
blob() {
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    mv "$1" "$blobs/$digest"
    echo "$digest"
}
size() { stat -c %s "$blobs/$1"; }

tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/new" .
layer=$(blob "$work/new")
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$command" "$layer" >"$work/new"
config=$(blob "$work/new")
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%s","size":%d}]}' \
    "$config" "$(size "$config")" "$layer" "$(size "$layer")" >"$work/new"
manifest=$(blob "$work/new")
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
    "$manifest" "$(size "$manifest")" "$name" "${name##*:}" >"$work/index.json"
printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":["blobs/sha256/%s"]}]' \
    "$config" "$name" "$layer" >"$work/manifest.json"
tar -C "$work" -cf "$file.new" blobs oci-layout index.json manifest.json
mv -f "$file.new" "$file"
