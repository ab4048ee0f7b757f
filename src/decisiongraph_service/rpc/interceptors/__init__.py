"""What every rpc goes through before and after its servicer."""
