"""Networks and their encoders, the engines that run them, and checkpoint files."""
