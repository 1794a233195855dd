"""What could not be billed: shown, released, discarded, and released by itself when its cause is gone."""
