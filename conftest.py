"""Figures and numbers made in tests go to a temporary folder, never over the published ones."""

import os
import tempfile

os.environ["VAE_TF_FIGURES"] = tempfile.mkdtemp(prefix="vae_tf_figures_")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_make_parametrize_id(val, argname):
    """Names bytes by their length: what is in them may differ between two collections."""
    return f"{argname}-{len(val)}-bytes" if isinstance(val, bytes) else None


def pytest_terminal_summary(terminalreporter):
    """Repeats at the end what tests have counted."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "count" and report.when == "call":
                    terminalreporter.write_line(f"counted: {value}")
