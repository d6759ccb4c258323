"""Runs the OpenMetrics check of the Datadog Agent once, with the instance that stdin gives as JSON.

Prints the metrics that the Agent would send: a JSON object of names to numbers of values."""

import json
import sys

from datadog_checks.base.checks.openmetrics.v2.base import OpenMetricsBaseCheckV2
from datadog_checks.base.stubs import aggregator

check = OpenMetricsBaseCheckV2("openmetrics", {}, [json.load(sys.stdin)])
# The generic integration takes its namespace from the instance.
check.__NAMESPACE__ = ""
error = check.run()
if error:
    sys.exit(error)
sent = {name: len(aggregator.metrics(name)) for name in aggregator.metric_names}
# The stub keeps distributions, made from histograms, in a place of their own.
sent |= {name: len(buckets) for name, buckets in aggregator._histogram_buckets.items()}
print(json.dumps(sent))
