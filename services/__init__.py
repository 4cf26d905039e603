"""The services of ArtMancer, one package each, and the commands that run them together on one machine."""

import os

# Since 1.29 onnxruntime reports each loaded model to Microsoft, without consent. Without a network, a process then
# waits up to 15 s at its end.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
