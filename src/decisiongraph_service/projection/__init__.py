"""Following the log: what events mean for the read models, one writer per tenant at a time."""
