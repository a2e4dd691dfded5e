"""The nets, one architecture in each file, and how a net is built, saved and loaded."""
