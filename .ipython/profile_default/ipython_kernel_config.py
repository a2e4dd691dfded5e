c.IPKernelApp.log_level = 50  # quieter: loopback TCP and every shutdown are logged as warnings and errors
