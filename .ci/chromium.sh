# Find a Chromium for the browser tests, or install one: the system's own where root may (it brings
# its libraries along), else the one that Playwright downloads for this user.
set -e
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
# Ubuntu has apt-get too, but its chromium package is a snap, which containers cannot run.
if [ "$(id -u)" = 0 ] && grep -qx 'ID=debian' /etc/os-release 2>/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update && apt-get install -y chromium && exit 0
fi
.venv/bin/python -m playwright install chromium
