"""Recognises errors after which a CUDA GPU refuses every call of this process."""

from __future__ import annotations

import torch

from services.a100worker.backends.qwen.memory.oom_fallback import is_shortage

# CUDA's libraries raise a plain RuntimeError, which leaves the context as unusable as an error of CUDA itself.
_LIBRARIES = ("CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error", "CUSOLVER_STATUS_", "CUDA error", "CUDA driver error")


def is_lost(error: RuntimeError) -> bool:
    """Return whether only a new process can use the GPU again: after an illegal access, not after a lack of memory."""
    if is_shortage(error):
        return False
    return isinstance(error, torch.AcceleratorError) or any(words in str(error) for words in _LIBRARIES)
