"""From words to a clean, split data set: crawl, download, clean, split. Importing this loads nothing heavy."""
