"""What people corrected: asked for, carried out, told."""
