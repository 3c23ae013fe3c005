#!/bin/sh
# Copies the modules that the dashboard uses out of tests/e2e/node_modules.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
from=$here/../../../tests/e2e/node_modules
strip() { sed -e '/^\/\/# sourceMappingURL=/d' "$1"; }
strip "$from/preact/dist/preact.mjs" >"$here/preact.module.js"
strip "$from/preact/hooks/dist/hooks.mjs" |
    sed -e "s#from *[\"']preact[\"']#from\"./preact.module.js\"#g" \
        >"$here/hooks.module.js"
strip "$from/htm/dist/htm.module.js" >"$here/htm.module.js"
cp "$from/preact/LICENSE" "$here/LICENSE.preact"
cp "$from/htm/LICENSE" "$here/LICENSE.htm"
