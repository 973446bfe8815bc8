"""Every private dependency on OpenRLHF, and nothing else of ours.

``install()`` is what a process calls before it imports OpenRLHF; Ray workers call it through
``runtime_env={"worker_process_setup_hook": "openrlhf_ext.upstream.install"}``. It imports neither torch nor OpenRLHF:
it registers what has to happen when one of OpenRLHF's modules is loaded later.
"""

TESTED = "0.11.2"


def install() -> None:
    """Open float32 everywhere; where there is no CUDA device, also the CPU seam and the short start-up.

    Raises:
        RuntimeError: another OpenRLHF than ``TESTED`` is installed, or one of its modules was imported too early.
    """
    from openrlhf_ext.upstream import cpu, fork, lean, precision

    precision.install()
    cpu.install()
    lean.install()
    fork.install()
