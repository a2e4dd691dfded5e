"""The computations of the paper: theory, linear model, pictures, intervals, tables and claims."""
