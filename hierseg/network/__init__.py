"""What turns pixels into scores: networks and their encoders, engines that run them, and checkpoint files."""
