"""Vietnamese put into English for encoders that read English alone."""
