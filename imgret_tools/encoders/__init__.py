"""Encoders: images or texts to rows."""
