"""Runs the OpenMetrics check of the Datadog Agent once, with the instance that is given as JSON, and prints what it would
send: a JSON object of metric names to how many values each has."""

import json
import sys

from datadog_checks.base.checks.openmetrics.v2.base import OpenMetricsBaseCheckV2
from datadog_checks.base.stubs import aggregator

check = OpenMetricsBaseCheckV2("openmetrics", {}, [json.load(sys.stdin)])
# The integration for any server takes its namespace from the instance.
check.__NAMESPACE__ = ""
error = check.run()
if error:
    sys.exit(error)
sent = {name: len(aggregator.metrics(name)) for name in aggregator.metric_names}
# Histograms become distributions, which the stub keeps apart.
sent |= {name: len(buckets) for name, buckets in aggregator._histogram_buckets.items()}
print(json.dumps(sent))
