"""Files become upright RGB pictures, or a reason why not."""
