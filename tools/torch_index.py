"""Say which index PyTorch is best installed from: the address of its CPU wheels, or nothing for
pip's own.

    pip install --extra-index-url $(python tools/torch_index.py) torch torchvision

On Linux, pip's own index has PyTorch for NVIDIA's devices: several GB that nothing uses where there
is no such device. The address goes to stdout, the reason to stderr. Nothing but Python is needed.
"""

import os
import shutil
import sys
import threading
import urllib.request

INDEX = "https://download.pytorch.org/whl/cpu"
# seconds, the look-up of the name included: a thread, since no timeout of urllib covers that
PATIENCE = 1.0


def has_nvidia() -> bool:
    """Whether this machine shows an NVIDIA device."""
    return os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi") is not None  # noqa: PTH110


def answers(address: str) -> bool:
    """Whether something is served there, within a second."""
    found = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
                found.append(answer.status == 200)
        except (OSError, ValueError):  # no network, a refusal, a proxy that is misspelt
            found.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found == [True]


def main() -> None:
    """Prints the address, if it is the better one, and why."""
    address = ""
    if sys.platform != "linux":
        reason = "PyTorch from pip's own index: its wheels for this system are small"
    elif has_nvidia():
        reason = "an NVIDIA device: PyTorch from pip's own index (several GB)"
    elif answers(f"{INDEX}/torch/"):
        address, reason = INDEX, f"no NVIDIA device: PyTorch for the CPU from {INDEX}"
    else:
        reason = (
            f"no NVIDIA device, but {INDEX} does not answer: PyTorch from pip's own index (several"
            " GB on Linux)"
        )
    print(reason, file=sys.stderr, flush=True)
    print(address, flush=True)
    os._exit(0)  # a look-up that still hangs does not hold us


if __name__ == "__main__":
    main()
