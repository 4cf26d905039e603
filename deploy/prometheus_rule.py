"""Write the alerts as an object of the Prometheus Operator: `python -m deploy.prometheus_rule`.

The alerts themselves are written once, in deploy/observability/alerts.yaml; kustomize cannot put a file into a field.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

FOLDER = Path(__file__).parent
ALERTS = FOLDER / "observability/alerts.yaml"
RULE = FOLDER / "kubernetes/components/prometheus-operator/prometheus-rule.yaml"
_HEAD = """# Made by `python -m deploy.prometheus_rule` from deploy/observability/alerts.yaml. Do not edit it by hand.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: artmancer
  namespace: artmancer
spec:
"""


def render() -> str:
    """Return the object as YAML; comments stay where they are."""
    return _HEAD + textwrap.indent(ALERTS.read_text(), "  ")


if __name__ == "__main__":
    RULE.write_text(render())
