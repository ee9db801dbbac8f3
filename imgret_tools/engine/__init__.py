"""What is done with libraries: index, search, explain, label."""
