"""The facts about each data set, one data set in each file."""
