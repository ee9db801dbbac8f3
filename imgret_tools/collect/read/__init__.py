"""Pages read for the pictures they show."""
