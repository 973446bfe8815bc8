"""OpenRLHF's own tests, which its wheel carries, pass under our seam."""

import re
import subprocess
import sys

import pytest

from openrlhf_ext.upstream.cli import source_path

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

COUNT = 221


def test_upstreams_own_tests_are_green_under_the_seam(tmp_path):
    tests = source_path("cli").parent.parent / "tests"
    run = (
        "import sys, pytest\n"
        "from openrlhf_ext import upstream\n"
        "upstream.install()\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--rootdir', {str(tests.parent)!r}, {str(tests)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", run], cwd=tmp_path, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(rf"\b{COUNT} passed", done.stdout), done.stdout[-500:]
