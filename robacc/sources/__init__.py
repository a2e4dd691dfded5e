"""The sources of each data set, one data set in each file."""
