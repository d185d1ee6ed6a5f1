#!/usr/bin/env bash
# Install the mock servers that run.py compares with, into benchmarks/peers. WireMock needs Java, the others need Node.js.
set -euo pipefail
cd "$(dirname "$0")"
npm install --prefix peers --no-audit --no-fund @copilotkit/aimock@1.43.0 @stoplight/prism-cli@5.16.0 wiremock@3.13.2
command -v java >/dev/null || echo "WireMock needs Java 17 or later: apt-get install openjdk-17-jre-headless"
