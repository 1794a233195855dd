"""What recorded spans hold that policies could bill by: endpoints, and what could name a user."""
