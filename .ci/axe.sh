# Install axe-core for the test of accessibility, if there is npm; without it the test is skipped.
set -e
version=4.14.1
[ -f node_modules/axe-core/axe.min.js ] && grep -q "\"version\": \"$version\"" node_modules/axe-core/package.json && exit 0
if ! command -v npm >/dev/null; then
    echo "npm is missing: the test of accessibility is skipped." >&2
    exit 0
fi
npm install --no-save --no-package-lock --no-audit --no-fund "axe-core@$version" ||
    echo "axe-core was not installed: the test of accessibility is skipped." >&2
