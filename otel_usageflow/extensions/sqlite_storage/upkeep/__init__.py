"""What goes on in the background: pruning, and when it is done."""
