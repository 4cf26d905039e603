"""ArtMancer's services, one package each, and the programs that run them together on one machine."""

import os

# Since 1.29 onnxruntime tells Microsoft of each model that is loaded. Nobody was asked, and where the network is shut a
# process waits for it at its end, for up to 15 s.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
