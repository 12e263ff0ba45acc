#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# CPython's own regression tests, unchanged (Debian: python3.11 libpython3.11-testsuite).
# Arguments: modules to run instead of the usual ones. SET=daily (the default) or SET=full.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

python=/usr/bin/python3.11
need "$python"
daily=(test_socket test_select test_selectors test_epoll test_poll test_socketserver test_ftplib test_httplib test_httpservers
    test_smtpd test_smtplib test_poplib test_telnetlib test_nntplib test_docxmlrpc test_urllib2_localnet test_asyncore
    test_asynchat test_wsgiref test_eintr)
full=("${daily[@]}" test_ssl test_asyncio test_imaplib test_xmlrpc test_logging test_concurrent_futures test_multiprocessing_spawn
    test_timeout test_urllib test_urllib2 test_robotparser test_fcntl test_subprocess test_os)
if (($# > 0)); then
    modules=("$@")
elif [[ ${SET:-daily} == full ]]; then
    modules=("${full[@]}")
else
    modules=("${daily[@]}")
fi

for module in "${modules[@]}"; do
    report=$OUT/room/$module.xml
    rm -f "$report"
    # ThreadedVSOCK*: AF_VSOCK hangs natively on a virtual machine whose guest kernel has it without a loopback transport.
    # -v: otherwise a failing set-up of a test with threads ends the whole module.
    # test_asyncio takes minutes, many on a busy machine.
    LIMIT=$((LIMIT * 3)) timed "$python" -m test -v --junit-xml "$report" -i 'ThreadedVSOCK*' -u network "$module"
    "$python" - "$report" "$module" "$STATUS" >>"$RESULT" <<'P'
import sys
import xml.etree.ElementTree as tree

report, module, status = sys.argv[1:]
try:
    cases = list(tree.parse(report).iter("testcase"))
except (OSError, tree.ParseError):
    print(f"fail\t{module}:whole-module(status={status})")
    sys.exit()
for case in cases:
    marks = {child.tag for child in case}
    if marks & {"failure", "error"}:
        word = "fail"
    elif case.get("result") == "skipped" or "skipped" in marks:
        word = "skip"
    else:
        word = "ok"
    print(f"{word}\t{module}:{case.get('name')}")
P
done
