"""The report page, its figures and its tables."""
