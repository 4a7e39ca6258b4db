"""What runs inside the pods: fetch data, bring weights, tune, publish, serve.

It stands beside the controllers and knows only their contract (docs/architecture.md).
"""
