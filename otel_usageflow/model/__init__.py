"""What flows through the service."""
