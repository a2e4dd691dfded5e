c.IPKernelApp.log_level = 40  # without: a warning about loopback TCP in every run
