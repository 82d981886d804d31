"""Set-up that must run before a test of training imports anything."""

from hierseg.network import _torchvision  # noqa: F401  # before accelerate, which imports torchvision
