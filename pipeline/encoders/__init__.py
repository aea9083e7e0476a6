"""Pretrained encoders over documents of any length, with heads on top."""
