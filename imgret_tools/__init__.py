"""Image search by picture and by words."""
