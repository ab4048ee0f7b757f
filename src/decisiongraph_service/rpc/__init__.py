"""The only place that knows gRPC: servicers translate messages to calls and errors to statuses."""
