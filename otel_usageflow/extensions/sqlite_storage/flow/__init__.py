"""What happens to usage on its way: taken, windowed, frozen into meter events, settled, counted by day."""
