"""What `decisiongraph doctor` looks at, a module per place: this machine, the database, the service."""
